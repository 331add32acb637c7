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
            let distance = distance(name, other);
            (distance <= name.len() / 4 || other.contains(name)).then_some((distance, other))
        })
        .collect();
    // Stable: of equally near ones the first in the file comes first.
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().take(OFFERED).map(|(_, other)| other.into()).collect()
}

/// The least number of characters to insert, remove or replace (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    // Row i of the table of distances between the first i characters of a and the first j of b.
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, expected) in
            [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

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
