//! What each element of an axis is worth: by its weights, or by what a text sends through them.

use statepress_core::recipe::{PruneBy, PruneKind};
use statepress_kernels::program::{
    AxisName, Expert, Experts, Layout, Matrix, MatrixId, Op, Program, VectorForm, VectorSource,
};

use super::eliminate::{Reader, eliminate};
use super::places::Place;
use super::weights::Weights;
use crate::EngineError;
use crate::techniques::pairs::Pairs;

/// What enters the products of a model, by the matrix.
pub(super) type Entering = Pairs<MatrixId, Vec<f32>>;

/// The elements of a place that stay.
pub(super) fn choose(
    program: &Program,
    place: &Place,
    (kind, by): (PruneKind, PruneBy),
    weights: &mut Weights,
    entering: &Entering,
) -> Result<Vec<usize>, EngineError> {
    let scores = match (by, kind) {
        (PruneBy::L1, _) => magnitudes(program, place, kind, weights, f64::abs)?,
        (PruneBy::L2, _) => magnitudes(program, place, kind, weights, |x| x * x)?,
        (_, PruneKind::Experts) => experts(program, place, by, weights, entering)?,
        _ => {
            let readers = place.readers(program);
            if readers.is_empty() {
                states(program, place, weights, entering)?
            } else {
                let mut all = Vec::with_capacity(readers.len());
                for id in readers {
                    let matrix = program.matrix(id);
                    let w = weights.matrix(matrix)?;
                    let h = entering.get(&id).ok_or_else(|| unmeasured(matrix))?;
                    all.push(Reader::new(matrix, &w, h, place)?);
                }
                // An expert that no token was sent to is cut by its weights.
                all.retain(|reader| !reader.is_silent());
                if all.is_empty() {
                    let scores = magnitudes(program, place, kind, weights, |x| x * x)?;
                    return Ok(place.best(&scores));
                }
                if by == PruneBy::Loss {
                    return Ok(eliminate(place, all));
                }
                let of = |at: usize| all.iter().map(|reader| reader.energy(at)).sum();
                (0..place.size).map(of).collect()
            }
        }
    };
    Ok(place.best(&scores))
}

pub(super) fn unmeasured(matrix: &Matrix) -> EngineError {
    EngineError::Evaluation(format!("what enters {} was not measured", matrix.key))
}

/// Sums over slices of all weights, each weight's as a share of its whole.
fn magnitudes(
    program: &Program,
    place: &Place,
    kind: PruneKind,
    weights: &mut Weights,
    size: fn(f64) -> f64,
) -> Result<Vec<f64>, EngineError> {
    let mut scores = vec![0.0; place.size];
    let mut add = |sums: Vec<f64>| {
        let whole: f64 = sums.iter().sum();
        if whole > 0.0 {
            scores.iter_mut().zip(sums).for_each(|(score, sum)| *score += sum / whole);
        }
    };
    if kind == PruneKind::Experts {
        for op in mixtures(program, place) {
            for of in [|expert: &Expert| expert.up, |expert: &Expert| expert.down] {
                let mut sums = Vec::with_capacity(place.size);
                for expert in &op.experts {
                    let w = weights.matrix(program.matrix(of(expert)))?;
                    sums.push(w.iter().map(|&x| size(f64::from(x))).sum());
                }
                add(sums);
            }
        }
    }
    for matrix in &program.matrices {
        for (dim, step) in [(0, matrix.cols), (1, 1)] {
            if !place.is_in(&matrix.dims[dim]) {
                continue;
            }
            let w = weights.matrix(matrix)?;
            let (count, stride) = if dim == 0 { (matrix.cols, 1) } else { (matrix.rows, matrix.cols) };
            let slice = |index: usize| -> f64 {
                (0..count).map(|at| size(f64::from(w[index * step + at * stride]))).sum()
            };
            let indexes = place.indexes(&matrix.dims[dim]);
            add(indexes.iter().map(|all| all.iter().map(|&index| slice(index)).sum()).collect());
        }
    }
    for vector in &program.vectors {
        let VectorSource::Key(key) = &vector.source else { continue };
        // How a state decays says nothing of how much of it there is.
        if vector.form == VectorForm::NegExp {
            continue;
        }
        for (dim, meaning) in vector.dims.iter().enumerate() {
            if !place.is_in(meaning) {
                continue;
            }
            let (shape, values) = weights.tensor(key)?;
            let inner: usize = shape[dim + 1..].iter().product();
            let indexes = place.indexes(meaning);
            let mut of = vec![usize::MAX; shape[dim]];
            for (element, all) in indexes.iter().enumerate() {
                all.iter().for_each(|&index| of[index] = element);
            }
            let mut sums = vec![0.0; place.size];
            for (at, &value) in values.iter().enumerate() {
                if let Some(sum) = sums.get_mut(of[at / inner.max(1) % shape[dim]]) {
                    *sum += size(f64::from(value));
                }
            }
            add(sums);
        }
    }
    Ok(scores)
}

/// The mixtures whose experts are removed.
pub(super) fn mixtures<'a>(program: &'a Program, place: &'a Place) -> impl Iterator<Item = &'a Experts> {
    program.nodes.iter().filter_map(|node| match &node.op {
        Op::Experts(op) if place.is_in(&program.matrix(op.router).dims[0]) => Some(op),
        _ => None,
    })
}

/// What experts are asked, or answer.
fn experts(
    program: &Program,
    place: &Place,
    by: PruneBy,
    weights: &mut Weights,
    entering: &Entering,
) -> Result<Vec<f64>, EngineError> {
    let mut scores = vec![0.0; place.size];
    for op in mixtures(program, place) {
        for (score, expert) in scores.iter_mut().zip(&op.experts) {
            let id = if by == PruneBy::Usage { expert.up } else { expert.down };
            let matrix = program.matrix(id);
            let h = entering.get(&id).ok_or_else(|| unmeasured(matrix))?;
            *score += match by {
                PruneBy::Usage => (0..matrix.cols).map(|i| f64::from(h[i * (matrix.cols + 1)])).sum::<f64>(),
                _ => {
                    let w = weights.matrix(matrix)?;
                    w.chunks_exact(matrix.cols.max(1)).map(|row| quadratic(row, h)).sum()
                }
            };
        }
    }
    Ok(scores)
}

/// States that no matrix reads: how strongly they are written and read, and how long they last. The share of B times that
/// of C, over how fast a state decays.
fn states(
    program: &Program,
    place: &Place,
    weights: &mut Weights,
    entering: &Entering,
) -> Result<Vec<f64>, EngineError> {
    let mut scores = vec![1.0; place.size];
    for id in place.writers(program) {
        let matrix = program.matrix(id);
        let h = entering.get(&id).ok_or_else(|| unmeasured(matrix))?;
        let w = weights.matrix(matrix)?;
        let mut first = 0;
        for segment in &matrix.dims[0].0 {
            if program.axes[segment.axis.0].name == AxisName::State && segment.axis == place.axis {
                let mut energies = vec![0.0; place.size];
                for at in 0..segment.len() {
                    let row = &w[(first + at) * matrix.cols..][..matrix.cols];
                    energies[at / segment.inner % segment.size] += quadratic(row, h);
                }
                scores.iter_mut().zip(energies).for_each(|(score, energy)| *score *= energy);
            }
            first += segment.len();
        }
    }
    for vector in &program.vectors {
        let (VectorSource::Key(key), VectorForm::NegExp) = (&vector.source, vector.form) else { continue };
        if vector.dims.last().is_some_and(|dim| place.is_in(dim)) {
            let (_, values) = weights.tensor(key)?;
            let mut lasts = vec![0.0; place.size];
            for (at, value) in values.iter().enumerate() {
                lasts[at % place.size] += f64::from(-value).exp();
            }
            scores.iter_mut().zip(lasts).for_each(|(score, lasts)| *score *= lasts);
        }
    }
    Ok(scores)
}

/// `x^T H x`.
pub(super) fn quadratic(x: &[f32], h: &[f32]) -> f64 {
    let mut product = vec![0.0f64; x.len()];
    for (&x, row) in x.iter().zip(h.chunks_exact(x.len().max(1))) {
        product.iter_mut().zip(row).for_each(|(sum, h)| *sum += f64::from(x) * f64::from(*h));
    }
    product.iter().zip(x).map(|(product, x)| product * f64::from(*x)).sum()
}

/// Numbers of a matrix `[rows, cols]`, of its tensor's.
pub(super) fn logical(matrix: &Matrix, values: &[f32]) -> Vec<f32> {
    let (rows, cols) = (matrix.rows, matrix.cols);
    match matrix.layout {
        Layout::Plain => values.to_vec(),
        Layout::Part { index, .. } => values[index * rows * cols..][..rows * cols].to_vec(),
        Layout::Transposed => {
            (0..rows).flat_map(|row| (0..cols).map(move |col| values[col * rows + row])).collect()
        }
    }
}
