//! Every shader, without a GPU: naga parses and validates it, and its uniform blocks lie as Rust's do.

use std::collections::BTreeSet;

use naga::back::PipelineConstants;
use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, Scalar, ShaderStage, TypeInner};
use statepress_core::Grid;
use statepress_kernels::shaders::{
    Affine, Block, Codec, Control, Features, Field, Kernel, Matrix, Norm, Scale,
};

/// Every combination of codecs that a kernel's matrices can have is a product of texts that do
/// not know each other: each codec in every place is enough.
fn combinations(kernel: Kernel) -> Vec<Vec<Codec>> {
    let (places, all) = (kernel.matrices().len(), Codec::all());
    match places {
        0 => vec![vec![]],
        _ => {
            (0..all.len()).map(|n| (0..places).map(|place| all[(n + place) % all.len()]).collect()).collect()
        }
    }
}

/// What a shader may use: subgroups where they are asked for, and nothing else that an adapter may
/// not have; half floats, say.
fn capabilities(features: Features) -> Capabilities {
    // `unpack2x16float`, which is no half float, is in every WebGPU.
    let always = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if features.subgroups { always | Capabilities::SUBGROUP } else { always }
}

fn parse(kernel: Kernel, codecs: &[Codec], features: Features) -> (Module, ModuleInfo) {
    let source = kernel.source(codecs, features);
    let what = format!("{kernel:?} {codecs:?} {features:?}");
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{what}: {}", error.emit_to_string(&source)));
    let validated = Validator::new(ValidationFlags::all(), capabilities(features)).validate(&module);
    let info = validated.unwrap_or_else(|error| panic!("{what}: {}", error.emit_to_string(&source)));
    (module, info)
}

/// Every choice among a few `override` constants; of many, none, all, every one and every two.
fn choices(names: &[String]) -> impl Iterator<Item = PipelineConstants> + '_ {
    let all = (1u32 << names.len()) - 1;
    let few = move |chosen: &u32| names.len() <= 6 || chosen.count_ones() <= 2 || *chosen == all;
    (0..=all).filter(few).map(|chosen| {
        let bit = |n: usize| f64::from(chosen >> n & 1);
        names.iter().enumerate().map(|(n, name)| (name.clone(), bit(n))).collect()
    })
}

/// Members with their offsets and types.
fn layout(module: &Module, name: &str) -> Vec<(String, usize, String)> {
    let found = module.types.iter().find(|(_, found)| found.name.as_deref() == Some(name));
    let (_, found) = found.unwrap_or_else(|| panic!("no struct {name}"));
    let TypeInner::Struct { members, .. } = &found.inner else { panic!("{name} is no struct") };
    let of = |ty| match (&module.types[ty].name, &module.types[ty].inner) {
        (Some(name), _) => name.clone(),
        (None, TypeInner::Scalar(Scalar::U32)) => "u32".into(),
        (None, TypeInner::Scalar(Scalar::F32)) => "f32".into(),
        (None, TypeInner::Vector { size: naga::VectorSize::Bi, scalar: Scalar::U32 }) => "Rows".into(),
        (None, TypeInner::Array { .. }) => "array".into(),
        (None, other) => panic!("{name}: {other:?} has no twin"),
    };
    let member =
        |member: &naga::StructMember| (member.name.clone().unwrap(), member.offset as usize, of(member.ty));
    members.iter().map(member).collect()
}

fn same(module: &Module, name: &str, fields: &[Field], what: &str) {
    let owned = |(name, offset, ty): &Field| (name.to_string(), *offset, ty.to_string());
    assert_eq!(layout(module, name), fields.iter().map(owned).collect::<Vec<_>>(), "{what}: {name}");
}

#[test]
fn every_shader_is_valid_in_every_precision_and_variant() {
    let mut checked = 0;
    for kernel in Kernel::ALL.iter().copied() {
        let mut overrides = BTreeSet::new();
        for codecs in combinations(kernel) {
            for (subgroups, packed_dot) in [(false, false), (false, true), (true, false), (true, true)] {
                let features = Features { subgroups, packed_dot };
                let (module, info) = parse(kernel, &codecs, features);
                checked += 1;
                let names: Vec<String> =
                    module.overrides.iter().filter_map(|(_, constant)| constant.name.clone()).collect();
                overrides.extend(names.iter().cloned());
                for constants in choices(&names) {
                    let main = Some((ShaderStage::Compute, "main"));
                    if let Err(error) = process_overrides(&module, &info, main, &constants) {
                        panic!("{kernel:?} {codecs:?} {constants:?}: {error}");
                    }
                }
            }
        }
        let declared: BTreeSet<String> = kernel.overrides().iter().map(ToString::to_string).collect();
        assert_eq!(overrides, declared, "{kernel:?}");
    }
    let with_matrices = Kernel::ALL.iter().filter(|kernel| !kernel.matrices().is_empty()).count();
    assert_eq!(checked, 4 * (Kernel::ALL.len() + with_matrices * (Codec::all().len() - 1)));
}

/// The test above would pass if nothing were refused.
#[test]
fn what_an_adapter_may_not_have_is_refused() {
    let sums = Kernel::ALL.iter().find(|kernel| kernel.sums() && kernel.matrices().is_empty()).unwrap();
    let source = sums.source(&[], Features { subgroups: true, packed_dot: false });
    let module = naga::front::wgsl::parse_str(&source).unwrap();
    let plain = capabilities(Features::default());
    assert!(Validator::new(ValidationFlags::all(), plain).validate(&module).is_err(), "subgroups");
    let half = naga::front::wgsl::parse_str("enable f16; var<private> x: f16;").unwrap();
    assert!(Validator::new(ValidationFlags::all(), plain).validate(&half).is_err(), "half floats");
}

#[test]
fn uniform_blocks_lie_as_rust_writes_them() {
    for kernel in Kernel::ALL.iter().copied() {
        let codecs = vec![
            Codec::Codes { grid: Grid::Nf4, scale: Scale::Double, per_row: false };
            kernel.matrices().len()
        ];
        let (module, _) = parse(kernel, &codecs, Features::default());
        let what = format!("{kernel:?}");
        same(&module, "Params", kernel.params(), &what);
        let control: Vec<_> =
            Control::FIELDS.iter().copied().chain([("ids", size_of::<Control>(), "array")]).collect();
        same(&module, "Control", &control, &what);
        same(&module, "Matrix", Matrix::FIELDS, &what);
        for (_, _, ty) in kernel.params() {
            match *ty {
                "Norm" => same(&module, ty, Norm::FIELDS, &what),
                "Affine" => same(&module, ty, Affine::FIELDS, &what),
                _ => {}
            }
        }
    }
}

/// What the guaranteed limits of WebGPU hold: no adapter has less.
#[test]
fn every_shader_fits_the_smallest_adapter() {
    for kernel in Kernel::ALL.iter().copied() {
        for codecs in combinations(kernel) {
            let (module, _) = parse(kernel, &codecs, Features::default());
            let mut layouter = naga::proc::Layouter::default();
            layouter.update(module.to_ctx()).unwrap();
            let (mut shared, mut storage) = (0, 0);
            for (_, variable) in module.global_variables.iter() {
                match variable.space {
                    naga::AddressSpace::WorkGroup => shared += layouter[variable.ty].size,
                    naga::AddressSpace::Storage { .. } => storage += 1,
                    _ => {}
                }
            }
            assert!(shared <= 16384, "{kernel:?} {codecs:?}: {shared} bytes of workgroup memory");
            assert!(storage <= 8, "{kernel:?}: {storage} storage buffers");
        }
    }
}
