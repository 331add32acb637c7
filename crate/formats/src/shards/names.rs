//! `model-00002-of-00003.safetensors`: what the names of shards say when no index does.

/// More shards are none: the number is something else.
const MOST: u32 = 100_000;

/// What the name of a shard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardName {
    /// What is before its number and after the count: the same for all shards of one checkpoint.
    around: (String, String),
    /// Its number as written; some count from 0.
    number: u32,
    /// Digits of the number.
    digits: usize,
    /// What stands between number and count: `-of-`, as written.
    between: String,
    /// How many shards there are.
    pub count: u32,
}

impl ShardName {
    /// Reads a name; none where it is not that of a shard.
    pub fn parse(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let (at, word) = ["-of-", "_of_"].iter().filter_map(|word| Some((lower.rfind(word)?, word))).max()?;
        let (before, between, after) = (&name[..at], &name[at..at + word.len()], &name[at + word.len()..]);
        let digit = |byte: &u8| byte.is_ascii_digit();
        let digits = before.bytes().rev().take_while(digit).count();
        let counted = after.bytes().take_while(digit).count();
        let (stem, number) = before.split_at(before.len() - digits);
        let (count, ending) = after.split_at(counted);
        let (number, count) = (number.parse().ok()?, count.parse().ok()?);
        let around = (stem.into(), ending.into());
        (count > 0 && count <= MOST && number <= count).then_some(Self {
            around,
            number,
            digits,
            between: between.into(),
            count,
        })
    }

    /// Whether two names are of shards of the same checkpoint.
    pub fn belongs_to(&self, other: &Self) -> bool {
        self.count == other.count && self.around == other.around
    }

    /// The numbers that are missing among the shards of one checkpoint, as names; in their order.
    pub(super) fn missing(there: &[Self]) -> Vec<String> {
        let Some(Self { around: (stem, ending), digits, between, count, .. }) = there.first() else {
            return Vec::new();
        };
        let first = u32::from(!there.iter().any(|shard| shard.number == 0));
        let numbers: std::collections::HashSet<u32> = there.iter().map(|shard| shard.number).collect();
        (first..first + count)
            .filter(|number| !numbers.contains(number))
            .map(|number| format!("{stem}{number:0digits$}{between}{count:0digits$}{ending}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(names: &[&str]) -> Vec<String> {
        ShardName::missing(&names.iter().map(|name| ShardName::parse(name).unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn names_of_one_checkpoint_belong_together() {
        let parse = |name| ShardName::parse(name).unwrap();
        let first = parse("model-00001-of-00003.safetensors");
        assert_eq!(first.count, 3);
        assert!(first.belongs_to(&parse("model-00003-of-00003.safetensors")));
        assert!(!first.belongs_to(&parse("model-00003-of-00004.safetensors")));
        assert!(!first.belongs_to(&parse("ema-00003-of-00003.safetensors")));
        assert!(!first.belongs_to(&parse("model-00003-of-00003.bin")));
        assert_eq!(parse("PART_2_OF_7.BIN").count, 7);
        assert_eq!(parse("a-1-of-2-00002-of-00005").count, 5);
        for name in [
            "model.safetensors",
            "kind-of-blue.pt",
            "a-1-of-.pt",
            "4-of-3.pt",
            "1-of-0.pt",
            "1-of-9999999999.pt",
        ] {
            assert_eq!(ShardName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn what_lacks_is_named_as_the_others_are() {
        assert_eq!(missing(&["m-00001-of-00003.bin", "m-00003-of-00003.bin"]), ["m-00002-of-00003.bin"]);
        assert_eq!(missing(&["m-0-of-2.bin"]), ["m-1-of-2.bin"]);
        assert!(missing(&["m-2-of-2.bin", "m-1-of-2.bin"]).is_empty());
        assert!(missing(&["m-0-of-2.bin", "m-1-of-2.bin"]).is_empty());
    }
}
