//! Layouts that are known by name only: their arrays are kept, and nobody takes them for numbers.

use super::{Arrays, Found};

/// A tool: the array by which it is known, and those beside it, after the name of the module.
struct Layout {
    scheme: &'static str,
    /// This and the next must be there.
    lead: &'static str,
    second: &'static str,
    beside: &'static [&'static str],
}

const LAYOUTS: [Layout; 13] = [
    Layout {
        scheme: "EXL2",
        lead: "q_weight",
        second: "q_scale",
        beside: &["q_scale_max", "q_groups", "q_perm", "q_invperm", "q_group_map"],
    },
    Layout { scheme: "EXL3", lead: "trellis", second: "suh", beside: &["svh", "su", "sv", "mcg", "mul1"] },
    Layout { scheme: "HQQ", lead: "W_q", second: "scale", beside: &["zero", "meta"] },
    Layout { scheme: "Marlin", lead: "B", second: "s", beside: &["workspace", "B_24", "B_meta"] },
    Layout {
        scheme: "quanto",
        lead: "weight._data",
        second: "weight._scale",
        beside: &["weight._data._data", "weight._shift", "input_scale", "output_scale"],
    },
    Layout {
        scheme: "torchao",
        lead: "_weight_qdata",
        second: "_weight_scale",
        beside: &["_weight_zero_point", "_weight_act_pre_scale"],
    },
    Layout { scheme: "AQLM", lead: "codes", second: "codebooks", beside: &["scales"] },
    Layout { scheme: "MXFP4", lead: "_blocks", second: "_scales", beside: &[] },
    Layout { scheme: "MLX", lead: "weight", second: "scales", beside: &["biases"] },
    Layout { scheme: "EETQ", lead: "qweight", second: "weight_scales", beside: &[] },
    Layout {
        scheme: "NVFP4",
        lead: "weight",
        second: "weight_scale_2",
        beside: &["weight_scale", "input_scale"],
    },
    Layout { scheme: "codes with scales", lead: "int8_weight", second: "scales", beside: &["zeros"] },
    Layout { scheme: "codes with a scale", lead: "weight", second: "scale", beside: &["zero_point", "zero"] },
];

/// The arrays of a layout that has `key` as its lead.
pub(super) fn find(arrays: &Arrays<'_>, key: &str) -> Option<Found> {
    let codes = arrays.get(key).filter(|codes| codes.dtype().is_whole())?;
    let found = LAYOUTS.iter().find_map(|layout| {
        let base = key.strip_suffix(layout.lead)?;
        // Modules end with a dot; MXFP4 goes on with the name itself.
        let whole = layout.lead.starts_with('_') || base.is_empty() || base.ends_with('.');
        arrays.get(&format!("{base}{}", layout.second)).filter(|_| whole)?;
        Some((layout, base))
    });
    let (layout, base) = found?;
    let mut keys = vec![key.to_string()];
    keys.extend(arrays.present(base, &[layout.second]));
    keys.extend(arrays.present(base, layout.beside));
    let why = format!("this layout is not read; codes are {:?}", codes.shape);
    Some(Found::Opaque { scheme: layout.scheme.into(), keys, why })
}
