//! Every shader, without a GPU: naga parses and validates it, and its uniform blocks lie as Rust's do.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{Module, TypeInner};
use statepress_kernels::shaders::{Block, Codec, Control, Features, Kernel, Matrix, Norm};

/// Every combination of codecs that a kernel's matrices can have is a product of texts that do
/// not know each other: each codec in every place is enough.
fn combinations(kernel: Kernel) -> Vec<Vec<Codec>> {
    let places = kernel.matrices().len();
    match places {
        0 => vec![vec![]],
        _ => Codec::ALL
            .iter()
            .enumerate()
            .map(|(n, _)| (0..places).map(|place| Codec::ALL[(n + place) % Codec::ALL.len()]).collect())
            .collect(),
    }
}

fn parse(kernel: Kernel, codecs: &[Codec], features: Features) -> Module {
    let source = kernel.source(codecs, features);
    let what = format!("{kernel:?} {codecs:?} {features:?}");
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{what}: {}", error.emit_to_string(&source)));
    let validated = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
    if let Err(error) = validated {
        panic!("{what}: {}", error.emit_to_string(&source));
    }
    module
}

fn layout(module: &Module, name: &str) -> Vec<(String, usize)> {
    let found = module.types.iter().find(|(_, found)| found.name.as_deref() == Some(name));
    let (_, found) = found.unwrap_or_else(|| panic!("no struct {name}"));
    let TypeInner::Struct { members, .. } = &found.inner else { panic!("{name} is no struct") };
    members.iter().map(|member| (member.name.clone().unwrap(), member.offset as usize)).collect()
}

fn same(module: &Module, name: &str, fields: &[(&str, usize)], what: &str) {
    let fields: Vec<_> = fields.iter().map(|(name, offset)| ((*name).to_string(), *offset)).collect();
    assert_eq!(layout(module, name), fields, "{what}: {name}");
}

#[test]
fn every_shader_is_valid_in_every_precision_and_variant() {
    let mut checked = 0;
    for kernel in Kernel::ALL {
        for codecs in combinations(kernel) {
            for subgroups in [false, true] {
                parse(kernel, &codecs, Features { subgroups, packed_dot: subgroups });
                checked += 1;
            }
        }
    }
    let with_matrices = Kernel::ALL.iter().filter(|kernel| !kernel.matrices().is_empty()).count();
    assert_eq!(checked, 2 * (Kernel::ALL.len() + with_matrices * (Codec::ALL.len() - 1)));
}

#[test]
fn uniform_blocks_lie_as_rust_writes_them() {
    for kernel in Kernel::ALL {
        let codecs =
            vec![Codec::Nf4 { absmax: statepress_kernels::shaders::Scale::Double }; kernel.matrices().len()];
        let module = parse(kernel, &codecs, Features::default());
        let what = format!("{kernel:?}");
        same(&module, "Params", kernel.params(), &what);
        let control: Vec<_> =
            Control::FIELDS.iter().copied().chain([("ids", std::mem::size_of::<Control>())]).collect();
        same(&module, "Control", &control, &what);
        same(&module, "Matrix", Matrix::FIELDS, &what);
        if kernel.params().iter().any(|(name, _)| *name == "norm") {
            same(&module, "Norm", Norm::FIELDS, &what);
        }
    }
}

/// What the guaranteed limits of WebGPU hold: no adapter has less.
#[test]
fn every_shader_fits_the_smallest_adapter() {
    for kernel in Kernel::ALL {
        for codecs in combinations(kernel) {
            let module = parse(kernel, &codecs, Features::default());
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
