//! The TypeScript twins of the report and recipe types, and of what a recipe's options may be: one
//! committed file, kept equal to Rust.
//!
//! `UPDATE_TYPES=1 cargo test -p statepress-tests --test types` rewrites it.

use std::any::TypeId;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use statepress_core::recipe::{Codecs, GroupOptions, Int4Options, Nf4Options, PruneKind, Quantize, Recover};
use statepress_core::{Grid, Precision, Role, job, recipe, report};
use ts_rs::{Config, TS, TypeVisitor};

const HEAD: &str = "\
// What the commands answer and what a recipe is, generated from crate/core (see tests/rust/alone/types.rs).
// Do not edit: UPDATE_TYPES=1 cargo test -p statepress-tests --test types
";

/// Every type that is reachable from those visited, by name.
struct Collected {
    config: Config,
    seen: HashSet<TypeId>,
    declarations: BTreeMap<String, String>,
}

impl TypeVisitor for Collected {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        if !self.seen.insert(TypeId::of::<T>()) {
            return;
        }
        // Only derived types have a file of their own; numbers, lists and options do not.
        if T::output_path().is_some() {
            let docs = T::docs().unwrap_or_default();
            let declaration = format!("{docs}export {}\n", T::decl(&self.config));
            self.declarations.insert(T::ident(&self.config), declaration);
        }
        T::visit_dependencies(self);
        T::visit_generics(self);
    }
}

fn generated() -> String {
    // Counts and bytes cross as JavaScript numbers: exact up to 2^53.
    let config = Config::new().with_large_int("number");
    let mut all = Collected { config, seen: HashSet::new(), declarations: BTreeMap::new() };
    all.visit::<report::Inspection>();
    all.visit::<report::TensorView>();
    all.visit::<report::Advice>();
    all.visit::<report::MeasuredRecipe>();
    all.visit::<report::Plan>();
    all.visit::<report::CompressReport>();
    all.visit::<report::Evaluation>();
    all.visit::<report::Comparison>();
    all.visit::<report::GeneratedToken>();
    all.visit::<report::Fisher>();
    all.visit::<report::SearchCosts>();
    all.visit::<report::SearchTarget>();
    all.visit::<report::SearchResult>();
    all.visit::<report::SearchSteps>();
    all.visit::<report::SearchTry>();
    all.visit::<report::SearchNext>();
    all.visit::<report::Training>();
    all.visit::<report::ExportReport>();
    all.visit::<recipe::Recipe>();
    all.visit::<job::Progress>();
    let bodies: Vec<_> = all.declarations.into_values().collect();
    let bodies = bodies.join("\n") + &options();
    let lines = bodies.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();
    format!("{HEAD}\n{lines}")
}

/// What those who offer options need to know of them, as values.
fn options() -> String {
    let constant = |docs: &str, name: &str, of: &str, value: String| {
        format!("\n/**\n * {docs}\n */\nexport const {name}: {of} = {value};\n")
    };
    let defaults = serde_json::to_string_pretty(&Quantize::default()).unwrap();
    let roles: Vec<_> =
        Role::ALL.iter().map(|role| format!("  {:?}: {:?},", role.name(), role.words())).collect();
    let grids: Vec<_> = Grid::ALL.iter().map(|it| format!("  {:?}: {:?},", it.name(), it.words())).collect();
    [
        constant(
            "What each role does, in words.",
            "ROLE_WORDS",
            "Readonly<Record<Role, string>>",
            format!("{{\n{}\n}}", roles.join("\n")),
        ),
        constant(
            "A quantize step to start from. `rules` and `otherwise` must always be given; the rest is what one takes for what it does not say.",
            "QUANTIZE_DEFAULTS",
            "Quantize",
            defaults,
        ),
        constant(
            "A recover step that says nothing else.",
            "RECOVER_DEFAULTS",
            "Recover",
            serde_json::to_string_pretty(&Recover::default()).unwrap(),
        ),
        constant(
            "Every precision, by bits of a number, most first.",
            "PRECISIONS",
            "readonly Precision[]",
            format!("{:?}", Precision::all().map(Precision::name).collect::<Vec<_>>()),
        ),
        constant(
            "What the levels of each grid are, in words.",
            "GRID_WORDS",
            "Readonly<Record<Grid, string>>",
            format!("{{\n{}\n}}", grids.join("\n")),
        ),
        constant(
            "Grids that `groups` of a quantize step says how to do.",
            "GROUPED",
            "readonly Grid[]",
            format!("{:?}", Grid::ALL.iter().filter(|&&it| Codecs::in_groups(it)).map(|it| it.name()).collect::<Vec<_>>()),
        ),
        constant(
            "What a prune step can remove.",
            "PRUNE_KINDS",
            "readonly PruneKind[]",
            format!("{:?}", PruneKind::ALL.map(PruneKind::name)),
        ),
        constant(
            "How each kind is pruned best where there is a text: how candidates are ranked, whether what is left is fitted to do without the others, and whether it takes a text at all.",
            "PRUNING",
            "Readonly<Record<PruneKind, { by: PruneBy; repair: boolean; needsText: boolean }>>",
            format!("{{\n{}\n}}", PruneKind::ALL.map(pruning).join("\n")),
        ),
        constant(
            "What `int4.group` may be.",
            "INT4_GROUPS",
            "readonly number[]",
            format!("{:?}", Int4Options::GROUPS),
        ),
        constant(
            "What `nf4.block` may be.",
            "NF4_BLOCKS",
            "readonly number[]",
            format!("{:?}", Nf4Options::BLOCKS),
        ),
        constant(
            "What `groups.group` may be.",
            "GROUP_SIZES",
            "readonly number[]",
            format!("{:?}", GroupOptions::GROUPS),
        ),
        constant(
            "What `groups.scale` may be.",
            "GROUP_SCALES",
            "readonly ScaleType[]",
            format!("{:?}", GroupOptions::SCALES.map(|scale| scale.name())),
        ),
    ]
    .concat()
}

fn pruning(kind: PruneKind) -> String {
    let (by, repair) = (kind.by_text().name(), kind.why_unrepaired().is_none());
    let needs_text = kind.why_by_text().is_some();
    format!("  {}: {{ by: {by:?}, repair: {repair}, needsText: {needs_text} }},", kind.name())
}

#[test]
fn the_committed_typescript_types_are_those_of_the_rust_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/src/api/types/statepress.ts");
    let generated = generated();
    if std::env::var_os("UPDATE_TYPES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = generated.lines().zip(committed.lines()).position(|(a, b)| a != b);
    assert!(
        generated == committed,
        "{} is not current (first difference at line {}): run UPDATE_TYPES=1 cargo test -p statepress-tests --test types",
        path.display(),
        differs.map_or(generated.lines().count().min(committed.lines().count()), |line| line) + 1,
    );
}
