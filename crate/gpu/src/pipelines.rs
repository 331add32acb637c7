//! Kernels compiled, each once for every combination of precisions and variants it is used in.

use std::collections::{BTreeMap, BTreeSet};

use statepress_kernels::shaders::{Codec, Kernel};

use crate::Gpu;

/// What has been compiled.
#[derive(Default)]
pub(crate) struct Pipelines {
    compiled: BTreeMap<Variant, wgpu::ComputePipeline>,
    /// Those that compute what the CPU does.
    pub(crate) passed: BTreeSet<Variant>,
    /// By the number of matrices, and whether the control block is written.
    layouts: BTreeMap<(usize, bool), wgpu::BindGroupLayout>,
}

/// A kernel over matrices of these codecs, with these `override` constants true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Variant {
    pub kernel: Kernel,
    pub codecs: Vec<Codec>,
    pub overrides: Vec<&'static str>,
}

impl Gpu {
    /// How many kernels have been compiled, for tests.
    pub fn compiled(&self) -> usize {
        self.0.pipelines.borrow().compiled.len()
    }

    /// A kernel, compiled.
    pub(crate) fn pipeline(&self, variant: Variant) -> wgpu::ComputePipeline {
        if let Some(pipeline) = self.0.pipelines.borrow().compiled.get(&variant) {
            return pipeline.clone();
        }
        let Variant { kernel, codecs, overrides } = &variant;
        let kernel = *kernel;
        let device = &self.0.device;
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&format!("{kernel:?}")),
            source: wgpu::ShaderSource::Wgsl(kernel.source(codecs, self.0.features).into()),
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&self.layout(kernel))],
            ..wgpu::PipelineLayoutDescriptor::default()
        });
        let constants: Vec<(&str, f64)> = overrides.iter().map(|name| (*name, 1.0)).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&format!("{kernel:?}")),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        self.0.pipelines.borrow_mut().compiled.insert(variant, pipeline.clone());
        pipeline
    }

    /// The layout of a kernel's bind group: parameters, memory, control, constants, matrices.
    pub(crate) fn layout(&self, kernel: Kernel) -> wgpu::BindGroupLayout {
        let key = (kernel.matrices().len(), kernel.writes_control());
        let mut pipelines = self.0.pipelines.borrow_mut();
        let layout = pipelines.layouts.entry(key).or_insert_with(|| {
            let (matrices, writes_control) = key;
            let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
            let mut types = vec![
                wgpu::BufferBindingType::Uniform,
                storage(false),
                storage(!writes_control),
                storage(true),
            ];
            types.extend((0..matrices).map(|_| storage(true)));
            let entries: Vec<_> = (0..)
                .zip(types)
                .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
                    binding,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                    count: None,
                })
                .collect();
            self.0
                .device
                .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
        });
        layout.clone()
    }
}
