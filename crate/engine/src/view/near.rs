//! Names that look like one that is not there.

/// The most names that are offered.
const OFFERED: usize = 3;

/// Names of files can be of any length, and comparing takes the product of two.
const LONGEST: usize = 256;

/// Those of `names` that are nearest to `name`: a few letters away, or holding it whole.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    if name.is_empty() || name.len() > LONGEST {
        return Vec::new();
    }
    let mut near: Vec<(usize, &str)> = names
        .filter(|other| other.len() <= LONGEST)
        .filter_map(|other| {
            let distance = strsim::levenshtein(name, other);
            (distance <= name.len() / 4 || other.contains(name)).then_some((distance, other))
        })
        .collect();
    // Stable: of equally near ones the first in the file comes first.
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().take(OFFERED).map(|(_, other)| other.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_and_far_ones_are_not() {
        let names = ["embedding.weight", "layers.0.norm.weight", "layers.1.norm.weight", "norm.weight"];
        let near = |name| nearest(name, names.into_iter());
        assert_eq!(near("embeding.weight"), ["embedding.weight"]);
        assert_eq!(near("layers.2.norm.weight"), ["layers.0.norm.weight", "layers.1.norm.weight"]);
        assert_eq!(near("embedding"), ["embedding.weight"]);
        assert!(near("D").is_empty() && near("").is_empty());
    }
}
