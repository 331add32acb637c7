//! GGUF for llama.cpp: the model under ggml's names (`walk`), what the header says of it (`metadata`), and its tokenizer.
//! What llama.cpp has no place for is refused by the name of its tensor (`arch`).

mod arch;
mod metadata;
mod piece;
mod tokenizer;
mod walk;

use std::rc::Rc;

use statepress_core::coded::{Blocks, Rule};
use statepress_core::encoding::{Coding, ScaleType};
use statepress_core::index::{Extent, Stored};
use statepress_core::report::ExportedTensor;
use statepress_core::words::counted;
use statepress_core::{DType, Encoding, Entry, Finding, GgmlType, Grid, Index, Sink, Source};
use statepress_formats::export::gguf::{GgufTensor, GgufWriter, Value};
use statepress_kernels::codecs;

use super::{is_coded, told_coded};
use crate::EngineError;
use crate::bands::{Band, Bands};
use crate::families::{ModelSpec, PRUNED};
use crate::techniques::Checkpoint;
use crate::techniques::tying::{self, Tying};
use arch::Arch;
use piece::{Made, Piece};

/// How a GGUF file is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufOptions {
    /// The type of matrices; where it is left out, the one nearest to what the checkpoint has, and blocks of an opened GGUF file
    /// stay what they are.
    pub kind: Option<GgmlType>,
    /// The text of a `tokenizer.json`.
    pub tokenizer: Option<String>,
    /// What the model is called; nothing where it is left out.
    pub name: Option<String>,
}

/// The file being written.
pub(super) struct Gguf {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    pieces: Vec<Piece>,
    kinds: Vec<GgmlType>,
    /// The blocks that are written as they are.
    kept: Vec<Option<Extent>>,
    writer: GgufWriter<Box<dyn Sink>>,
}

impl Gguf {
    /// Plans every tensor and writes the header.
    pub fn new(
        checkpoint: &Checkpoint,
        options: &GgufOptions,
        sink: Box<dyn Sink>,
        findings: &mut Vec<Finding>,
    ) -> Result<Self, EngineError> {
        let Checkpoint { source, index, spec } = checkpoint;
        let arch = Arch::of(spec)?;
        if spec.fields.contains_key(PRUNED) {
            return Err(arch.refused("", "lacks parts of layers"));
        }
        if spec.runs()?.reduced.is_some() {
            return Err(arch.refused("", "has rows for some ids only"));
        }
        let mut program = (**spec.runs()?).clone();
        if matches!(tying::tying(&**source, index, &spec.names)?, Tying::Shared | Tying::Copy) {
            program.tie_head();
        }
        let walked = walk::Walked::new(&program, arch, spec)?;
        let pieces = arch.admitted(walked.pieces, findings)?;
        findings.extend(arch.told(&program));
        let entry = |piece: &Piece| match piece.made {
            Made::Of(position) => Some(&index.tensors[position]),
            Made::Numbers(_) => None,
        };
        let mut blocks: Vec<_> =
            pieces.iter().map(|piece| entry(piece).and_then(|entry| piece.blocks(entry))).collect();
        // Floats alone are of any file.
        let quantized = blocks.iter().flatten().any(|(kind, _)| kind.block().0 > 1);
        for (piece, blocks) in pieces.iter().zip(&mut blocks) {
            let is_asked = |kind| !piece.is_matrix || options.kind.is_none_or(|asked| asked == kind);
            *blocks = blocks.filter(|(kind, _)| quantized && is_asked(*kind));
        }
        let changed = || {
            let changed = pieces.iter().zip(&blocks).filter(|(_, blocks)| blocks.is_none());
            changed.filter_map(|(piece, _)| Some((piece, entry(piece)?)))
        };
        let asked = match options.kind {
            Some(kind) => kind,
            None => {
                let matrices = changed().filter(|(piece, _)| piece.is_matrix);
                usual(index, spec, matrices.map(|(_, entry)| entry), findings)
            }
        };
        let kinds = kinds(&pieces, &blocks, asked, findings);
        findings.extend(told_kept(&pieces, &blocks));
        let coded = changed().filter(|(_, entry)| is_coded(entry));
        let coded: Vec<&str> = coded.map(|(_, entry)| entry.name.as_str()).collect();
        let again = match asked {
            GgmlType::F32 => "written as the float32 numbers that they stand for, which take more room",
            _ => {
                "rounded once more here; exporting what the recipe `none` leaves rounds once, and loses less"
            }
        };
        findings.extend(told_coded(&coded, again));

        let mut metadata: Vec<(String, Value)> = metadata::general(arch, options, &kinds, asked);
        metadata.extend(metadata::model(arch, &program, spec, &walked.scales)?);
        let rows = program.matrix(program.table).rows;
        metadata.extend(tokenizer::tokenizer(options.tokenizer.as_deref(), rows, findings));
        let tensors = pieces.iter().zip(&kinds).map(|(piece, &kind)| GgufTensor {
            name: piece.name.clone(),
            shape: piece.shape.clone(),
            kind,
        });
        let writer = GgufWriter::new(sink, &metadata, tensors.collect())?;
        let kept = blocks.into_iter().map(|blocks| Some(blocks?.1)).collect();
        Ok(Self { source: source.clone(), index: index.clone(), pieces, kinds, kept, writer })
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Writes the tensor at that position; `None` behind the last.
    pub fn write(&mut self, at: usize) -> Result<Option<ExportedTensor>, EngineError> {
        let Some((piece, kind)) = self.pieces.get(at).zip(self.kinds.get(at)) else { return Ok(None) };
        let (mut bytes, mut from) = (0, None);
        match &piece.made {
            Made::Numbers(values) => {
                bytes = self.writer.write(&piece.name, &piece.changed(values.clone()))?
            }
            Made::Of(position) => {
                let entry = &self.index.tensors[*position];
                from = Some(entry.name.clone());
                if let Some(blocks) = self.kept.get(at).copied().flatten() {
                    bytes = self.writer.copy(&piece.name, &*self.source, blocks)?;
                } else {
                    let mut write = |tensor| {
                        let values = piece.changed(codecs::into_numbers(tensor));
                        bytes += self.writer.write(&piece.name, &values)?;
                        Ok(())
                    };
                    match piece.is_by_number() {
                        true => Bands::new(&*self.source, entry, kind.block().0)?
                            .each(&mut |band: Band<'_>| write(band.tensor))?,
                        false => write(statepress_formats::read_tensor(&*self.source, entry)?)?,
                    }
                }
            }
        }
        let (name, shape, dtype) = (piece.name.clone(), piece.shape.clone(), kind.name().into());
        Ok(Some(ExportedTensor { name, from, shape, dtype, bytes }))
    }

    /// Bytes of the file.
    pub fn finish(self) -> Result<u64, EngineError> {
        Ok(self.writer.finish()?.1)
    }
}

/// Says which blocks stay.
fn told_kept(pieces: &[Piece], blocks: &[Option<(GgmlType, Extent)>]) -> Option<Finding> {
    let kept = || pieces.iter().zip(blocks).filter(|(piece, blocks)| piece.is_matrix && blocks.is_some());
    let (first, _) = kept().next()?;
    let message = format!(
        "{} written as the blocks that they are",
        counted(kept().count(), "matrix is", "matrices are")
    );
    Some(Finding::info("blocks-kept", message).about(&first.name))
}

/// The type nearest to what most numbers of a checkpoint's matrices are; `matrices` are those that become it.
fn usual<'a>(
    index: &Index,
    spec: &ModelSpec,
    mut matrices: impl Iterator<Item = &'a Entry>,
    findings: &mut Vec<Finding>,
) -> GgmlType {
    let mut counted: Vec<(GgmlType, u64)> = Vec::new();
    for entry in index.tensors.iter().filter(|entry| entry.shape.len() > 1 && entry.tied_to.is_none()) {
        if !spec.weights.contains_key(&entry.name) {
            continue;
        }
        let kind = nearest(entry);
        match counted.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, params)) => *params += entry.params(),
            None => counted.push((kind, entry.params())),
        }
    }
    let most = counted.iter().max_by_key(|(_, params)| *params).map_or(GgmlType::F32, |(kind, _)| *kind);
    if matrices.any(|entry| nearest(entry) != most) {
        let message = format!(
            "matrices have several precisions: all that cannot stay what they are become {}, nearest to most of their numbers, as no type was asked for",
            most.name()
        );
        findings.push(Finding::info("several-precisions", message));
    }
    most
}

/// The type nearest to what an entry is.
fn nearest(entry: &Entry) -> GgmlType {
    match &entry.stored {
        Stored::Strided(view) if view.dtype == DType::F16 => GgmlType::F16,
        Stored::Strided(view) if view.dtype == DType::Bf16 => GgmlType::Bf16,
        Stored::Strided(_) | Stored::Opaque { .. } => GgmlType::F32,
        Stored::Affine { .. } => GgmlType::Q8_0,
        Stored::Coded(coded) => match &coded.rule {
            Rule::Blocks(Blocks { parts, .. }) if parts.iter().all(|(kind, _)| kind.is_written()) => {
                parts.first().map_or(GgmlType::F32, |(kind, _)| *kind)
            }
            _ => nearest_to(coded.encoding),
        },
        Stored::Packed { encoding, .. } => nearest_to(*encoding),
    }
}

/// The type nearest to an encoding.
fn nearest_to(encoding: Encoding) -> GgmlType {
    let Coding { grid, scale, .. } = match encoding {
        Encoding::Fp32 => return GgmlType::F32,
        Encoding::Fp16 => return GgmlType::F16,
        Encoding::Bf16 => return GgmlType::Bf16,
        Encoding::Codes(coding) => coding,
        Encoding::Rows(_) => return GgmlType::Q8_0,
    };
    match grid {
        Grid::Nf4 => GgmlType::Iq4Nl,
        Grid::Int4 if scale == ScaleType::Affine => GgmlType::Q4K,
        Grid::Int5 if scale == ScaleType::Affine => GgmlType::Q5K,
        grid if grid.bits() <= 4 => GgmlType::Q4_0,
        grid if grid.bits() == 5 => GgmlType::Q5_0,
        grid if grid.bits() == 6 => GgmlType::Q6K,
        _ => GgmlType::Q8_0,
    }
}

/// The type of every tensor: vectors and taps stay float32, as llama.cpp computes with nothing else; matrices whose rows are
/// no whole blocks have the nearest type that fits.
fn kinds(
    pieces: &[Piece],
    blocks: &[Option<(GgmlType, Extent)>],
    asked: GgmlType,
    findings: &mut Vec<Finding>,
) -> Vec<GgmlType> {
    let mut finer: Vec<(&str, GgmlType, usize)> = Vec::new();
    let kind = |(piece, blocks): (&Piece, &Option<(GgmlType, Extent)>)| match (piece.shape.last(), blocks) {
        (_, Some((kind, _))) => *kind,
        (Some(&columns), None) if piece.is_matrix => asked.for_rows(columns),
        _ => GgmlType::F32,
    };
    let kinds: Vec<GgmlType> = pieces.iter().zip(blocks).map(kind).collect();
    for ((piece, blocks), &kind) in pieces.iter().zip(blocks).zip(&kinds) {
        if piece.is_matrix && blocks.is_none() && kind != asked {
            finer.push((&piece.name, kind, *piece.shape.last().unwrap_or(&0)));
        }
    }
    let mut told: Vec<(GgmlType, usize)> = Vec::new();
    for &(first, kind, columns) in &finer {
        if told.contains(&(kind, columns)) {
            continue;
        }
        told.push((kind, columns));
        let count = finer.iter().filter(|(_, other, rows)| (*other, *rows) == (kind, columns)).count();
        let matrices = counted(count, "matrix is", "matrices are");
        let message = format!(
            "{matrices} written as {}: their rows of {columns} numbers are no multiple of {}, the block of {}",
            kind.name(),
            asked.block().0,
            asked.name()
        );
        findings.push(Finding::info("finer-type", message).about(first));
    }
    kinds
}
