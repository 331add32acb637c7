//! What becomes of a tensor: of each of its dimensions some indexes stay, or directions take their place; then a factor, and
//! a row that is added.

use std::rc::Rc;

/// What becomes of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// The usual key of the tensor that it is made of.
    pub from: String,
    /// What becomes of each dimension; `None`: nothing.
    pub dims: Vec<Option<Along>>,
    /// Its numbers are multiplied by it.
    pub factor: f32,
    /// What is then added to every row, where anything is: as many numbers as the last dimension has.
    pub added: Option<Rc<Vec<f32>>>,
}

/// What becomes of a dimension.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Along {
    /// These indexes stay.
    Stays(Vec<usize>),
    /// Directions take their place.
    Turned(Rc<Turn>),
}

/// Directions in place of indexes: `y[k] = sum_j x[j] numbers[j][k]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    /// How many indexes there were.
    pub from: usize,
    /// How many directions there are.
    pub to: usize,
    /// `[from, to]`; empty where only sizes are known, and no number is asked for.
    pub numbers: Vec<f64>,
}

impl Change {
    /// None, of the tensor of this key.
    pub fn none(key: &str) -> Self {
        Self { from: key.into(), dims: Vec::new(), factor: 1.0, added: None }
    }

    /// Whether it does the same, whatever it is done to.
    pub fn alike(&self, other: &Self) -> bool {
        (&self.dims, self.factor, &self.added) == (&other.dims, other.factor, &other.added)
    }

    /// Whether the numbers that it leaves are among those that there were.
    pub fn only_cuts(&self) -> bool {
        let is_turned = |along: &Option<Along>| matches!(along, Some(Along::Turned(_)));
        self.factor == 1.0 && self.added.is_none() && !self.dims.iter().any(is_turned)
    }

    /// The shape of what is left of a tensor `shape`.
    pub fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let left = |(at, &size): (usize, &usize)| match self.dims.get(at) {
            Some(Some(Along::Stays(stays))) => stays.len(),
            Some(Some(Along::Turned(turn))) => turn.to,
            _ => size,
        };
        shape.iter().enumerate().map(left).collect()
    }

    /// Numbers of a tensor `shape`, changed.
    pub fn apply(&self, values: &[f32], shape: &[usize]) -> Vec<f32> {
        let mut shape = shape.to_vec();
        let mut turned: Option<Vec<f32>> = None;
        for at in 0..shape.len() {
            if let Some(Some(Along::Turned(turn))) = self.dims.get(at) {
                let inner = shape[at + 1..].iter().product();
                turned = Some(turn.apply(turned.as_deref().unwrap_or(values), inner));
                shape[at] = turn.to;
            }
        }
        let mut numbers = self.select(turned.as_deref().unwrap_or(values), &shape);
        if let Some(added) = &self.added {
            for row in numbers.chunks_exact_mut(added.len().max(1)) {
                row.iter_mut().zip(&**added).for_each(|(x, added)| *x += added);
            }
        }
        numbers
    }

    /// What stays, times the factor.
    fn select(&self, values: &[f32], shape: &[usize]) -> Vec<f32> {
        let mut strides = vec![1; shape.len()];
        for at in (1..shape.len()).rev() {
            strides[at - 1] = strides[at] * shape[at];
        }
        let stays = |at: usize| match self.dims.get(at) {
            Some(Some(Along::Stays(stays))) => stays.clone(),
            _ => (0..shape[at]).collect(),
        };
        // Where rows of the last dimension begin; that one is gone through as it comes.
        let mut rows = vec![0usize];
        let outer = shape.len().saturating_sub(1);
        for (at, &stride) in strides.iter().enumerate().take(outer) {
            let (stays, above) = (stays(at), std::mem::take(&mut rows));
            for row in above {
                for index in &stays {
                    rows.push(row + index * stride);
                }
            }
        }
        let last = if shape.is_empty() { vec![0] } else { stays(outer) };
        let mut numbers = Vec::with_capacity(rows.len() * last.len());
        for row in rows {
            for index in &last {
                numbers.push(values[row + index] * self.factor);
            }
        }
        numbers
    }
}

impl Turn {
    /// Directions of which only the number is known.
    pub fn sized(from: usize, to: usize) -> Self {
        Self { from, to, numbers: Vec::new() }
    }

    /// The same with index `j` multiplied by `factors[j]`.
    pub fn scaled(&self, factors: impl Fn(usize) -> f64) -> Self {
        let rows = self.numbers.chunks_exact(self.to.max(1)).enumerate();
        let numbers = rows.flat_map(|(j, row)| row.iter().map(move |x| (j, x)));
        Self { numbers: numbers.map(|(j, x)| factors(j) * x).collect(), ..*self }
    }

    /// Puts directions in place of the middle dimension of `values` `[_, from, inner]`.
    pub fn apply(&self, values: &[f32], inner: usize) -> Vec<f32> {
        let mut turned = Vec::with_capacity(values.len() / self.from.max(1) * self.to);
        let mut sums = vec![0.0f64; self.to * inner];
        for block in values.chunks_exact((self.from * inner).max(1)) {
            sums.fill(0.0);
            for (x, row) in block.chunks_exact(inner).zip(self.numbers.chunks_exact(self.to.max(1))) {
                if let [x] = x {
                    sums.iter_mut().zip(row).for_each(|(sum, by)| *sum += f64::from(*x) * by);
                    continue;
                }
                for (sums, by) in sums.chunks_exact_mut(inner).zip(row) {
                    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*x) * by);
                }
            }
            turned.extend(sums.iter().map(|&sum| sum as f32));
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_dimension_can_be_turned_while_others_are_cut() {
        let turn = Rc::new(Turn { from: 3, to: 2, numbers: vec![1.0, 0.0, 0.5, -1.0, 0.0, 2.0] });
        let values: Vec<f32> = (0..12).map(|x| x as f32).collect();
        let stays = Some(Along::Stays(vec![1]));
        let change = |dims: Vec<Option<Along>>| Change { dims, factor: 2.0, ..Change::none("w") };
        let last = change(vec![stays.clone(), Some(Along::Turned(turn.clone()))]);
        assert_eq!(last.shape(&[4, 3]), [1, 2]);
        // The row 3, 4, 5.
        assert_eq!(last.apply(&values, &[4, 3]), [2.0 * (3.0 + 2.0), 2.0 * (-4.0 + 10.0)]);
        let middle = change(vec![None, Some(Along::Turned(turn)), stays]);
        assert_eq!(middle.shape(&[2, 3, 2]), [2, 2, 1]);
        // The columns 1, 3, 5 and 7, 9, 11.
        let expected = [1.0 + 1.5, -3.0 + 10.0, 7.0 + 4.5, -9.0 + 22.0].map(|x| 2.0 * x);
        assert_eq!(middle.apply(&values, &[2, 3, 2]), expected);
        assert!(!middle.only_cuts() && Change::none("w").only_cuts());
    }
}
