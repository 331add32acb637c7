//! The GPU as the engine knows it: a backend that holds matrices and runs networks.

use std::rc::Rc;

use statepress_core::Tensor;
use statepress_kernels::backend::{Backend, BackendError};
use statepress_kernels::network::Network;

use crate::{Gpu, GpuMatrix, GpuNetwork, GpuRunner};

impl Backend for Gpu {
    type Matrix = GpuMatrix;
    type Network = GpuNetwork;
    type Runner = GpuRunner;

    fn matrix(&self, name: &str, tensor: Tensor, _: bool) -> Result<GpuMatrix, BackendError> {
        // How a matrix lies, the program knows.
        self.check()?;
        GpuMatrix::new(self, name, tensor)
    }

    fn network(&self, network: Network<GpuMatrix>) -> Result<GpuNetwork, BackendError> {
        GpuNetwork::new(self, network)
    }

    fn runner(&self, network: &Rc<GpuNetwork>, exact: bool) -> Result<GpuRunner, BackendError> {
        self.check()?;
        Ok(GpuRunner::new(network.clone(), exact))
    }

    fn unchecked(&self, network: &GpuNetwork) -> Option<Vec<usize>> {
        network.unchecked()
    }

    fn passed(&self, network: &GpuNetwork) {
        network.passed();
    }
}
