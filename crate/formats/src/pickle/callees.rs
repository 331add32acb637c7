//! What a pickle asks to call, by name: for a finding, because none of it is done.

use std::collections::{BTreeMap, HashMap};

use statepress_core::Finding;

use super::{Heap, Node, Value};
use crate::findings::list;

/// What runs programs, reads and writes files, or makes code of strings: by module, or by name.
const DANGEROUS: [&str; 27] = [
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "pty",
    "importlib",
    "imp",
    "runpy",
    "shutil",
    "socket",
    "ctypes",
    "pickle",
    "_pickle",
    "marshal",
    "code",
    "webbrowser",
    "urllib",
    "requests",
    "http",
    "multiprocessing",
    "platform",
    "tempfile",
    "signal",
    "timeit",
    "cProfile",
    "pdb",
];

/// Of the built-in functions, those that run code or open files.
const DANGEROUS_BUILTINS: [&str; 10] = [
    "eval",
    "exec",
    "execfile",
    "compile",
    "open",
    "__import__",
    "globals",
    "input",
    "breakpoint",
    "setattr",
];

/// The callees of records, with how often each is asked for.
pub(crate) struct Callees {
    counts: BTreeMap<String, usize>,
}

impl Callees {
    /// All of a pickle.
    pub(crate) fn of(heap: &Heap) -> Self {
        // By the node of the global first: a name is put together once for each.
        let mut by_node: HashMap<u32, usize> = HashMap::new();
        for node in heap.nodes() {
            if let Node::Record(record) = node
                && let Value::Ref(callee) = record.callee
            {
                *by_node.entry(callee).or_default() += 1;
            }
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (node, count) in by_node {
            if let Some(name) = heap.global(Value::Ref(node)) {
                *counts.entry(name).or_default() += count;
            }
        }
        Self { counts }
    }

    /// What is said of them: what is dangerous by name in a warning, what else is no plain value once.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let (dangerous, inert): (Vec<_>, Vec<_>) = self
            .counts
            .keys()
            .filter(|name| !is_harmless(name))
            .cloned()
            .partition(|name| is_dangerous(name));
        let mut findings = Vec::new();
        if !dangerous.is_empty() {
            findings.push(Finding::warning(
                "dangerous-pickle",
                format!(
                    "loading this file in Python would call {}: here nothing is called, but do not load it with \
                     torch.load(weights_only=False) unless you trust it",
                    list(&dangerous)
                ),
            ));
        }
        if !inert.is_empty() {
            findings.push(Finding::info(
                "not-rebuilt",
                format!(
                    "Python objects beside the weights were not rebuilt, nothing was imported or called: {}",
                    list(&inert)
                ),
            ));
        }
        findings
    }
}

/// Whether a global does more than make a value.
pub(crate) fn is_dangerous(name: &str) -> bool {
    let (module, word) = name.rsplit_once('.').unwrap_or(("", name));
    let top = module.split('.').next().unwrap_or(module);
    match top {
        "builtins" | "__builtin__" => DANGEROUS_BUILTINS.contains(&word),
        _ => DANGEROUS.contains(&top),
    }
}

/// Plain containers of the standard library, whose items are read like any list or dict.
fn is_harmless(name: &str) -> bool {
    matches!(
        name,
        "collections.OrderedDict"
            | "collections.defaultdict"
            | "collections.Counter"
            | "collections.deque"
            | "__builtin__.set"
            | "builtins.set"
            | "__builtin__.frozenset"
            | "builtins.frozenset"
            | "torch.Size"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn danger_is_known_by_the_module_or_the_word() {
        for name in ["os.system", "posix.getcwd", "builtins.eval", "__builtin__.exec", "subprocess.Popen"] {
            assert!(is_dangerous(name), "{name}");
        }
        for name in ["builtins.getattr", "numpy.dtype", "osaka.system", "argparse.Namespace"] {
            assert!(!is_dangerous(name), "{name}");
        }
    }
}
