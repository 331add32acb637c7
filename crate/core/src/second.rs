//! Words by which training scripts call what is not the model that is trained.

/// Its average or another copy, what it learns from, what judges it, what its optimizer keeps.
const WORDS: [&str; 33] = [
    "ema",
    "swa",
    "swag",
    "polyak",
    "slow",
    "average",
    "averaged",
    "avg",
    "shadow",
    "momentum",
    "teacher",
    "target",
    "ref",
    "reference",
    "frozen",
    "init",
    "initial",
    "old",
    "prev",
    "previous",
    "backup",
    "copy",
    "discriminator",
    "critic",
    "reward",
    "draft",
    "grad",
    "grads",
    "gradient",
    "gradients",
    "fisher",
    "mask",
    "masks",
];

/// Whether a path or a prefix has such a word in it; words are apart by `.` or `_`.
pub fn is_second(path: &str) -> bool {
    path.split(['.', '_']).any(|word| WORDS.contains(&word.to_ascii_lowercase().as_str()))
}
