//! Buffers that have been used and can be used again, by usage and size class.

use std::collections::BTreeMap;

/// Free buffers.
#[derive(Default)]
pub(crate) struct Pool {
    free: BTreeMap<(u32, u64), Vec<wgpu::Buffer>>,
}

/// Free buffers of one class that are kept; the others are given back to the driver.
const KEPT: usize = 4;

/// The largest buffer that is kept.
const LARGEST: u64 = 64 << 20;

impl Pool {
    /// The size a buffer for so many bytes has: a power of two, or a multiple of 16 MiB.
    pub fn class(bytes: u64) -> u64 {
        let bytes = bytes.max(16);
        if bytes <= 16 << 20 { bytes.next_power_of_two() } else { bytes.next_multiple_of(16 << 20) }
    }

    /// A free buffer of that size and usage.
    pub fn take(&mut self, size: u64, usage: wgpu::BufferUsages) -> Option<wgpu::Buffer> {
        self.free.get_mut(&(usage.bits(), size))?.pop()
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: wgpu::Buffer) {
        let free = self.free.entry((buffer.usage().bits(), buffer.size())).or_default();
        if buffer.size() <= LARGEST && free.len() < KEPT {
            free.push(buffer);
        } else {
            buffer.destroy();
        }
    }
}
