//! Where values lie while a program runs: values whose lifetimes do not meet share a slot.

use super::{Node, ValueId, Watched};

/// The slot of every value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slots {
    /// Of every value.
    of: Vec<usize>,
    /// Numbers a token that a slot must have room for.
    widths: Vec<usize>,
}

impl Slots {
    /// Gives every value the first slot that is free from its first mention to its last. The residual
    /// stream has one of its own, and what the head reads is there in the end.
    pub fn new(nodes: &[Node], widths: &[usize], hidden: ValueId, last: ValueId) -> Self {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; widths.len()];
        for (at, node) in nodes.iter().enumerate() {
            let watched = node.records.iter().filter_map(|record| match record.what {
                Watched::View(view) => Some(view.value),
                Watched::Product | Watched::Router => None,
            });
            for value in node.op.reads().into_iter().chain([node.op.writes()]).chain(watched) {
                let life = lives[value.0].get_or_insert((at, at));
                life.1 = at;
            }
        }
        if let Some(life) = &mut lives[last.0] {
            life.1 = usize::MAX;
        }
        lives[hidden.0] = Some((0, usize::MAX));
        let mut order: Vec<usize> = (0..widths.len()).collect();
        order.sort_by_key(|&value| lives[value]);
        let mut slots = Self { of: vec![0; widths.len()], widths: Vec::new() };
        // The node at which each slot is free again.
        let mut free_from: Vec<usize> = Vec::new();
        for value in order {
            let Some((first, last)) = lives[value] else { continue };
            let slot = free_from.iter().position(|&free| free <= first).unwrap_or_else(|| {
                free_from.push(0);
                slots.widths.push(0);
                free_from.len() - 1
            });
            free_from[slot] = last.saturating_add(1);
            slots.widths[slot] = slots.widths[slot].max(widths[value]);
            slots.of[value] = slot;
        }
        slots
    }

    /// The slot of a value.
    pub fn of(&self, value: ValueId) -> usize {
        self.of[value.0]
    }

    /// Numbers a token of every slot.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Activation, Op, View};
    use super::*;

    fn copy(from: usize, to: usize) -> Node {
        let view = |value| View { value: ValueId(value), first: 0, width: 1 };
        Node {
            op: Op::Copy { x: view(from), y: view(to) },
            layer: None,
            records: Vec::new(),
            ends_layer: false,
        }
    }

    #[test]
    fn values_share_slots_once_the_earlier_is_read_for_the_last_time() {
        let mut nodes = vec![copy(0, 1), copy(1, 2), copy(2, 3), copy(3, 0)];
        let slots = Slots::new(&nodes, &[8, 4, 2, 16], ValueId(0), ValueId(0));
        assert_eq!(slots.of(ValueId(1)), slots.of(ValueId(3)), "1 ends where 2 is written, 3 begins after");
        assert_ne!(slots.of(ValueId(1)), slots.of(ValueId(2)), "one is read while the other is written");
        let room = [0, 1, 2, 3].map(|value| slots.widths()[slots.of(ValueId(value))]);
        assert_eq!(room, [8, 16, 2, 16], "a shared slot has room for the widest");
        assert_eq!(slots.widths().len(), 3);
        nodes.push(Node { op: Op::Activate { activation: Activation::Silu, y: ValueId(1) }, ..copy(0, 0) });
        let slots = Slots::new(&nodes, &[8, 4, 2, 16], ValueId(0), ValueId(0));
        assert_ne!(slots.of(ValueId(1)), slots.of(ValueId(3)));
        assert_ne!(slots.of(ValueId(3)), slots.of(ValueId(0)), "the residual stream lives throughout");
    }
}
