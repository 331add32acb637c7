//! What the files of a kernel import, and the kernel's whole text.

use super::codec::{Codec, tables};
use super::{FUSED_EXPERTS, FUSED_OPERAND, Features, Kernel, LANE_STATES, MAX_NORM_GROUPS, THREADS};

/// Files that others import, by name.
const FILES: &[(&str, &str)] = &[
    ("activation", shader!("../ops/gate/activation.wgsl")),
    ("advance", shader!("../ops/conv1d/advance_function.wgsl")),
    ("affine", shader!("../linear/affine.wgsl")),
    ("causal", shader!("../ops/conv1d/causal.wgsl")),
    ("functions", shader!("../ops/gate/functions.wgsl")),
    ("norm", shader!("../ops/norm/norm.wgsl")),
    ("operand", shader!("../linear/operand.wgsl")),
    ("normed_operand", shader!("../linear/normed_operand.wgsl")),
    ("any_operand", shader!("../linear/any_operand.wgsl")),
    ("four", shader!("../ops/scan/four.wgsl")),
    ("rotation", shader!("../ops/attention/rotation.wgsl")),
    ("step_size", shader!("../ops/gate/step_size.wgsl")),
    ("softmax", shader!("../ops/softmax/softmax.wgsl")),
    // Of these the text depends on features and codecs.
    ("reduce", ""),
    ("dot", ""),
    ("product", "// import: reduce, dot\n"),
];

/// The names on the `// import: ` lines at the top of a file.
fn named(file: &str) -> impl Iterator<Item = &str> {
    let lines = file.lines().map_while(|line| line.strip_prefix("// import: "));
    lines.flat_map(|line| line.split(", "))
}

/// The files that a file imports, and those that they import, each once.
fn imports(file: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    let mut open: Vec<&str> = named(file).collect();
    while let Some(name) = open.pop() {
        if all.iter().any(|(known, _)| *known == name) {
            continue;
        }
        // A name that is not there leaves a function undefined, which every check of the text finds.
        all.extend(FILES.iter().find(|(known, _)| *known == name));
        open.extend(all.last().into_iter().flat_map(|(_, text)| named(text)));
    }
    all.sort_unstable();
    all
}

impl Kernel {
    /// Whether it sums over threads.
    pub fn sums(self) -> bool {
        imports(self.text()).iter().any(|(name, _)| *name == "reduce")
    }

    /// Its text, for matrices of these codecs.
    pub fn source(self, codecs: &[Codec], features: Features) -> String {
        let subgroups = features.subgroups && self.sums();
        let integers = features.packed_dot && codecs.iter().any(|codec| codec.is_int8());
        let access = if self.writes_control() { "read_write" } else { "read" };
        let mut text = shader!("common.wgsl").replace("CONTROL_ACCESS", access);
        if !self.matrices().is_empty() {
            text.push_str(shader!("../codecs/scales.wgsl"));
            text.push_str(&tables(codecs));
        }
        let mut matrix_text = String::new();
        let mut multiplies = false;
        for (name, file) in imports(self.text()) {
            match name {
                "reduce" if subgroups => text.push_str(shader!("reduce_subgroup.wgsl")),
                "reduce" => text.push_str(shader!("reduce.wgsl")),
                "dot" => matrix_text.push_str(shader!("../linear/dot.wgsl")),
                "product" => {
                    multiplies = true;
                    matrix_text.push_str(shader!("../linear/product.wgsl"));
                    text.push_str(match integers {
                        true => shader!("../codecs/grids/int8/round.wgsl"),
                        false => shader!("../linear/no_round.wgsl"),
                    });
                }
                _ => text.push_str(file),
            }
        }
        for (i, (name, &codec)) in self.matrices().iter().zip(codecs).enumerate() {
            let mut matrix = codec.text() + &matrix_text;
            if multiplies {
                let file = match features.packed_dot && codec.is_int8() {
                    true => shader!("../codecs/grids/int8/integer_dot.wgsl"),
                    false => shader!("../linear/no_integer_dot.wgsl"),
                };
                matrix.push_str(&file.replace("SCALE", codec.scale()));
            }
            text.push_str(&matrix.replace("MATRIX", name).replace("BINDING", &(4 + i).to_string()));
        }
        let (argument, start) = match subgroups {
            true => (",\n    @builtin(subgroup_size) subgroup: u32,\n", "subgroup_width = subgroup;"),
            false => ("", ""),
        };
        let own = self.text().replace("SUBGROUP_ARGUMENT", argument).replace("SUBGROUP_START", start);
        text.push_str(&own);
        for (name, value) in [
            ("FUSED_OPERAND", FUSED_OPERAND / 4),
            ("FUSED_EXPERTS", FUSED_EXPERTS),
            ("MAX_NORM_GROUPS", MAX_NORM_GROUPS),
            ("LANE_STATES", LANE_STATES),
        ] {
            text = text.replace(name, &value.to_string());
        }
        text.replace("THREADS = 256u", &format!("THREADS = {THREADS}u"))
    }
}
