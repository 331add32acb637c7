//! A network at work on one sequence, on the GPU.

use std::ops::Range;
use std::rc::Rc;

use statepress_kernels::backend::{self, BackendError, Moments, Runner, Sampled, Sampling, Stretch};
use statepress_kernels::program::{MatrixId, Op};
use statepress_kernels::shaders::{self as wgsl, Block as _, Kernel, LABEL_SETS};
use wgpu::BufferUsages;

use crate::memory::{KEPT, Places};
use crate::record::{Dispatch, Extent, Moves, Part};
use crate::submit::{Buffers, Program, Residuals};
use crate::{Gpu, GpuNetwork};

/// A network at work on one sequence.
pub struct GpuRunner {
    network: Rc<GpuNetwork>,
    /// f32 activations throughout.
    exact: bool,
    /// From the first step on.
    sequence: Option<Sequence>,
    position: usize,
    /// Rows of the last forward pass.
    rows: usize,
    /// Tokens sampled since logits were last kept.
    step: usize,
    /// Rows of logits that are kept.
    kept: usize,
}

/// The memory of a sequence, and the programs that work on it.
struct Sequence {
    places: Places,
    memory: wgpu::Buffer,
    control: wgpu::Buffer,
    token: Program,
    tokens: Program,
    kept_logits: Program,
    normed: Program,
    logits: Program,
    nll: Program,
    gpu: Gpu,
}

/// Words of the control block before its ids.
const CONTROL_WORDS: usize = size_of::<wgsl::Control>() / 4;

/// No label.
const NONE: u32 = u32::MAX;

const READ_BACK: BufferUsages = BufferUsages::MAP_READ.union(BufferUsages::COPY_DST);

impl Sequence {
    fn new(
        network: &GpuNetwork,
        capacity: usize,
        positions: usize,
        exact: bool,
    ) -> Result<Self, BackendError> {
        let gpu = &network.gpu;
        let places = Places::new(network, capacity, positions);
        let storage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let memory = gpu.buffer("a sequence's activations", 4 * places.words as u64, storage)?;
        let control_words = CONTROL_WORDS + (2 + LABEL_SETS as usize) * places.capacity;
        let control = gpu.buffer("control", 4 * control_words as u64, storage)?;
        let buffers = Buffers { memory: &memory, control: &control, constants: &network.constants };
        let program = |list| Program::new(gpu, list, &buffers);
        let (token, tokens) = (program(network.token(&places, exact))?, program(network.tokens(&places))?);
        let kept_logits = program(network.kept_logits(&places, exact))?;
        let normed = program(network.normed(&places))?;
        let (logits, nll) = (program(network.logits(&places))?, program(network.nll(&places))?);
        Ok(Self {
            token,
            tokens,
            kept_logits,
            normed,
            logits,
            nll,
            gpu: gpu.clone(),
            places,
            memory,
            control,
        })
    }

    fn control(&self) -> wgsl::Control {
        wgsl::Control { capacity: self.places.capacity as u32, n: 1, ..wgsl::Control::default() }
    }

    fn write_control(&self, control: &wgsl::Control, ids: &[u32]) {
        let mut words = Vec::with_capacity(CONTROL_WORDS + ids.len());
        control.words(&mut words);
        words.extend_from_slice(ids);
        self.gpu.0.queue.write_buffer(&self.control, 0, bytemuck::cast_slice(&words));
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    fn submit(&self, encoder: wgpu::CommandEncoder) {
        self.gpu.0.queue.submit([encoder.finish()]);
    }

    fn read_back(&self, words: usize) -> Result<wgpu::Buffer, BackendError> {
        self.gpu.buffer("results", 4 * words as u64, READ_BACK)
    }

    fn copy(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        at: u32,
        words: usize,
        into: &wgpu::Buffer,
        to: usize,
    ) {
        let bytes = 4 * words as u64;
        encoder.copy_buffer_to_buffer(&self.memory, 4 * u64::from(at), into, 4 * to as u64, bytes);
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        let mut pool = self.gpu.0.pool.borrow_mut();
        pool.give(self.memory.clone());
        pool.give(self.control.clone());
    }
}

impl GpuRunner {
    /// At the beginning of a sequence, whose memory is taken with the first step.
    pub(crate) fn new(network: Rc<GpuNetwork>, exact: bool) -> Self {
        Self { network, exact, sequence: None, position: 0, rows: 0, step: 0, kept: 0 }
    }

    /// The sequence, with room for steps of `n` tokens, of which `take_in` are taken in. What it
    /// remembers stays.
    fn sequence(&mut self, n: usize, take_in: usize) -> Result<&Sequence, BackendError> {
        let positions = self.position + take_in;
        let old = self
            .sequence
            .take_if(|sequence| sequence.places.capacity < n || sequence.places.positions < positions);
        if self.sequence.is_none() {
            let n = n.max(old.as_ref().map_or(0, |old| old.places.capacity));
            let sequence = Sequence::new(&self.network, n, positions, self.exact)?;
            let mut encoder = sequence.encoder();
            encoder.clear_buffer(&sequence.memory, 0, None);
            if let Some(old) = old {
                for (from, to, words) in old.places.moves_to(&sequence.places, &self.network, self.position) {
                    let (from, to, bytes) = (4 * u64::from(from), 4 * u64::from(to), 4 * words as u64);
                    encoder.copy_buffer_to_buffer(&old.memory, from, &sequence.memory, to, bytes);
                }
            }
            sequence.submit(encoder);
            self.sequence = Some(sequence);
        }
        self.ready()
    }

    /// The sequence, which a step has made.
    fn ready(&self) -> Result<&Sequence, BackendError> {
        self.sequence.as_ref().ok_or_else(|| BackendError::Validation("nothing has been taken in".into()))
    }

    /// Passes over rows of the residual stream, as many at a time as there is room for logits.
    fn passes(rows: Range<usize>, at_once: usize) -> impl Iterator<Item = Range<usize>> {
        rows.clone().step_by(at_once).map(move |from| from..rows.end.min(from + at_once))
    }
}

impl Runner for GpuRunner {
    fn name(&self) -> &'static str {
        "webgpu"
    }

    fn adapter(&self) -> Option<String> {
        Some(self.network.gpu.0.adapter.name.clone())
    }

    fn restart(&mut self) {
        (self.position, self.rows, self.step, self.kept) = (0, 0, 0, 0);
        if let Some(sequence) = &self.sequence {
            let mut encoder = sequence.encoder();
            encoder.clear_buffer(&sequence.memory, 0, Some(4 * sequence.places.remembered as u64));
            sequence.submit(encoder);
        }
    }

    fn position(&self) -> usize {
        self.position
    }

    async fn forward(
        &mut self,
        ids: &[u32],
        residuals: Option<&mut backend::Residuals>,
    ) -> Result<(), BackendError> {
        let (n, position) = (ids.len(), self.position);
        let (layers, d) = (self.network.program.n_layers(), self.network.hidden_size);
        let sequence = self.sequence(n, n)?;
        sequence.gpu.check()?;
        sequence.write_control(
            &wgsl::Control { position: position as u32, n: n as u32, ..sequence.control() },
            ids,
        );
        let program = if n == 1 { &sequence.token } else { &sequence.tokens };
        let mut encoder = sequence.encoder();
        match residuals {
            None => {
                program.encode(&mut encoder, n, None);
                sequence.submit(encoder);
            }
            Some(residuals) => {
                let words = (layers + 1) * n * d;
                let into = sequence.read_back(words)?;
                let at = sequence.places.hidden;
                let copies = Residuals { memory: &sequence.memory, at, words: n * d, into: &into };
                program.encode(&mut encoder, n, Some(copies));
                sequence.submit(encoder);
                let all = floats(sequence.gpu.read(into, words).await?);
                *residuals = all.chunks_exact(n * d).map(<[f32]>::to_vec).collect();
            }
        }
        self.position += n;
        self.rows = n;
        Ok(())
    }

    async fn logits(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), BackendError> {
        let vocab_size = self.network.vocab_size;
        let sequence = self.ready()?;
        let words = rows.len() * vocab_size;
        let into = sequence.read_back(words)?;
        let first = rows.start;
        for pass in Self::passes(rows, sequence.places.logit_rows) {
            let control =
                wgsl::Control { n: pass.len() as u32, row: pass.start as u32, ..sequence.control() };
            sequence.write_control(&control, &[]);
            let mut encoder = sequence.encoder();
            sequence.logits.encode(&mut encoder, pass.len(), None);
            let (count, to) = (pass.len() * vocab_size, (pass.start - first) * vocab_size);
            sequence.copy(&mut encoder, sequence.places.logits, count, &into, to);
            sequence.submit(encoder);
        }
        *out = floats(sequence.gpu.read(into, words).await?);
        Ok(())
    }

    async fn hidden(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), BackendError> {
        let d = self.network.program.width(self.network.program.head.x);
        let sequence = self.ready()?;
        let into = sequence.read_back(rows.len() * d)?;
        let control = wgsl::Control { n: rows.len() as u32, row: rows.start as u32, ..sequence.control() };
        sequence.write_control(&control, &[]);
        let mut encoder = sequence.encoder();
        sequence.normed.encode(&mut encoder, rows.len(), None);
        sequence.copy(&mut encoder, sequence.places.norm, rows.len() * d, &into, 0);
        sequence.submit(encoder);
        *out = floats(sequence.gpu.read(into, rows.len() * d).await?);
        Ok(())
    }

    async fn moments(
        &mut self,
        ids: &[u32],
        Stretch { nodes, stream }: Stretch<'_>,
        matrices: &[MatrixId],
        moments: Moments,
        sums: &mut [Vec<f32>],
    ) -> Result<(), BackendError> {
        let network = self.network.clone();
        let (gpu, program) = (&network.gpu, &network.program);
        let (begins, is_last) = (nodes.start == 0, nodes.end == program.nodes.len());
        gpu.check()?;
        self.restart();
        // Scales of inputs, where there are some, are for the sums.
        let scale = |id: MatrixId| {
            program.nodes.iter().find_map(|node| match &node.op {
                Op::Linear(linear) if linear.w == id => Some(linear.x_scale),
                _ => None,
            })
        };
        let mut places = Places::new(&network, ids.len(), ids.len());
        let mut taps = Vec::with_capacity(matrices.len());
        for &id in matrices {
            let (scale, len) = (scale(id).unwrap_or(1.0), moments.len(program.matrix(id).cols));
            taps.push((id, places.append(len), len, scale * scale));
        }
        let storage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let memory = gpu.buffer("a sequence's activations and sums", 4 * places.words as u64, storage)?;
        let control_words = CONTROL_WORDS + (2 + LABEL_SETS as usize) * places.capacity;
        let control = gpu.buffer("control", 4 * control_words as u64, storage)?;
        let buffers = Buffers { memory: &memory, control: &control, constants: &network.constants };
        let places_of: Vec<(MatrixId, u32)> = taps.iter().map(|(id, at, ..)| (*id, *at)).collect();
        let list = Program::new(gpu, network.tapped(&places, nodes, &places_of, moments), &buffers)?;
        let header = wgsl::Control {
            n: ids.len() as u32,
            capacity: places.capacity as u32,
            ..wgsl::Control::default()
        };
        let mut words = Vec::with_capacity(CONTROL_WORDS + ids.len());
        header.words(&mut words);
        words.extend_from_slice(ids);
        gpu.0.queue.write_buffer(&control, 0, bytemuck::cast_slice(&words));
        let total = taps.iter().map(|(_, _, len, _)| len).sum::<usize>();
        let words = ids.len() * network.hidden_size;
        let into = gpu.buffer("results", 4 * (words + total) as u64, READ_BACK)?;
        let encoder = || gpu.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut clear = encoder();
        clear.clear_buffer(&memory, 0, None);
        gpu.0.queue.submit([clear.finish()]);
        let hidden = 4 * u64::from(places.hidden);
        if !begins {
            gpu.0.queue.write_buffer(&memory, hidden, bytemuck::cast_slice(stream));
        }
        let mut encoder = encoder();
        list.encode(&mut encoder, ids.len(), None);
        encoder.copy_buffer_to_buffer(&memory, hidden, &into, 0, 4 * words as u64);
        // The sums lie one behind the other.
        if let Some((_, first, ..)) = taps.first() {
            let at = 4 * u64::from(*first);
            encoder.copy_buffer_to_buffer(&memory, at, &into, 4 * words as u64, 4 * total as u64);
        }
        gpu.0.queue.submit([encoder.finish()]);
        let mut all = floats(gpu.read(into, words + total).await?);
        let sums_of_all = all.split_off(words);
        *stream = all;
        [memory, control].into_iter().for_each(|buffer| gpu.0.pool.borrow_mut().give(buffer));
        let mut found = sums_of_all.as_slice();
        for ((_, _, len, scale), sums) in taps.into_iter().zip(sums) {
            let (these, rest) = found.split_at(len);
            sums.iter_mut().zip(these).for_each(|(sum, found)| *sum += scale * found);
            found = rest;
        }
        // What the final norm gives stays in a sequence's own memory.
        if is_last && matrices.contains(&program.head.matrix) {
            self.forward(ids, None).await
        } else {
            Ok(())
        }
    }

    async fn nll(&mut self, labels: &[&[u32]]) -> Result<Vec<Vec<f32>>, BackendError> {
        let sequence = self.ready()?;
        let (capacity, sets) = (sequence.places.capacity, LABEL_SETS as usize);
        let mut all = Vec::with_capacity(labels.len());
        for labels in labels.chunks(sets) {
            let mut ids = vec![NONE; (2 + sets) * capacity];
            for (set, labels) in labels.iter().enumerate() {
                ids[(2 + set) * capacity..][..labels.len()].copy_from_slice(labels);
            }
            let rows = labels.iter().map(|labels| labels.len()).max().unwrap_or(0);
            for pass in Self::passes(0..rows, sequence.places.logit_rows) {
                let control =
                    wgsl::Control { n: pass.len() as u32, row: pass.start as u32, ..sequence.control() };
                sequence.write_control(&control, &ids);
                let mut encoder = sequence.encoder();
                sequence.logits.encode(&mut encoder, pass.len(), None);
                sequence.nll.encode(&mut encoder, pass.len(), None);
                sequence.submit(encoder);
            }
            let into = sequence.read_back(sets * capacity)?;
            let mut encoder = sequence.encoder();
            sequence.copy(&mut encoder, sequence.places.nll, sets * capacity, &into, 0);
            sequence.submit(encoder);
            let found = floats(sequence.gpu.read(into, sets * capacity).await?);
            let sets = labels.iter().zip(found.chunks_exact(capacity));
            all.extend(sets.map(|(labels, found)| found[..labels.len()].to_vec()));
        }
        Ok(all)
    }

    async fn keep(&mut self, n: usize) -> Result<(), BackendError> {
        let vocab_size = self.network.vocab_size;
        if n > KEPT {
            return Err(BackendError::Limit {
                what: "the prediction offset".into(),
                needed: n as u64,
                allowed: KEPT as u64,
                adapter: self.network.gpu.0.adapter.name.clone(),
            });
        }
        let rows = self.rows;
        let sequence = self.ready()?;
        let control = wgsl::Control { n: n as u32, row: (rows - n) as u32, ..sequence.control() };
        sequence.write_control(&control, &[]);
        let mut encoder = sequence.encoder();
        sequence.logits.encode(&mut encoder, n, None);
        let bytes = 4 * (n * vocab_size) as u64;
        let (from, to) = (u64::from(sequence.places.logits), u64::from(sequence.places.kept));
        // A copy within one buffer is not allowed: over another one.
        let between =
            sequence.gpu.buffer("kept logits", bytes, BufferUsages::COPY_SRC | BufferUsages::COPY_DST)?;
        encoder.copy_buffer_to_buffer(&sequence.memory, 4 * from, &between, 0, bytes);
        encoder.copy_buffer_to_buffer(&between, 0, &sequence.memory, 4 * to, bytes);
        sequence.submit(encoder);
        sequence.gpu.0.pool.borrow_mut().give(between);
        // Whoever takes the time of a prompt wants to know when it is in.
        sequence.gpu.settle(&sequence.memory).await?;
        (self.step, self.kept) = (0, n);
        Ok(())
    }

    async fn generate(
        &mut self,
        sampling: &Sampling,
        random: &[f64],
        take_in: usize,
    ) -> Result<Vec<Sampled>, BackendError> {
        let count = random.len();
        let (position, step, kept) = (self.position, self.step, self.kept);
        let network = self.network.clone();
        let sequence = self.sequence(count, take_in)?;
        sequence.gpu.check()?;
        let places = &sequence.places;
        let sample = Program::new(
            &sequence.gpu,
            vec![sample(&network, places, sampling, kept)],
            &Buffers { memory: &sequence.memory, control: &sequence.control, constants: &network.constants },
        )?;
        let random: Vec<f32> = random.iter().map(|&random| below_one(random)).collect();
        let at = 4 * u64::from(places.random);
        sequence.gpu.0.queue.write_buffer(&sequence.memory, at, bytemuck::cast_slice(&random));
        sequence.write_control(
            &wgsl::Control { first: position as u32, step: step as u32, ..sequence.control() },
            &[],
        );
        let mut encoder = sequence.encoder();
        for draw in 0..count {
            sample.encode(&mut encoder, 1, None);
            if draw < take_in {
                sequence.token.encode(&mut encoder, 1, None);
                sequence.kept_logits.encode(&mut encoder, 1, None);
            }
        }
        let into = sequence.read_back(2 * count)?;
        let ids_at = 4 * (CONTROL_WORDS + places.capacity) as u64;
        encoder.copy_buffer_to_buffer(&sequence.control, ids_at, &into, 0, 4 * count as u64);
        sequence.copy(&mut encoder, places.probabilities, count, &into, count);
        sequence.submit(encoder);
        let words = sequence.gpu.read(into, 2 * count).await?;
        self.position += take_in;
        self.step += count;
        let (ids, probabilities) = words.split_at(count);
        let sampled = ids
            .iter()
            .zip(probabilities)
            .map(|(&id, &probability)| Sampled { id, probability: f64::from(f32::from_bits(probability)) });
        Ok(sampled.collect())
    }
}

/// The dispatch that takes a token.
pub(crate) fn sample(network: &GpuNetwork, places: &Places, sampling: &Sampling, kept: usize) -> Part {
    let params = wgsl::Sample {
        logits: places.kept,
        kept: kept as u32,
        vocab_size: network.vocab_size as u32,
        probabilities: places.probabilities,
        random: places.random,
        usable: sampling.usable.min(network.vocab_size) as u32,
        top_k: sampling.top_k.map_or(0, |k| k.min(network.vocab_size) as u32),
        temperature: sampling.temperature,
    };
    let mut words = Vec::new();
    params.words(&mut words);
    Part::Dispatch(Dispatch {
        kernel: Kernel::Sample,
        overrides: Vec::new(),
        params: words,
        matrices: Vec::new(),
        matrices_read: 0,
        banks_used: 1,
        // All logits and a random number; what is taken, and its probability.
        moves: Moves { vectors: 0, activations: network.vocab_size + 3 },
        groups: [Extent::Fixed(1); 3],
    })
}

/// As f32, where the largest numbers below 1 would be rounded to it.
fn below_one(random: f64) -> f32 {
    (random as f32).min(1.0f32.next_down())
}

fn floats(words: Vec<u32>) -> Vec<f32> {
    words.into_iter().map(f32::from_bits).collect()
}
