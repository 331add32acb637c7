//! Sources and sinks of a native program.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use statepress_core::source::{SourceError, check_range};
use statepress_core::{Sink, Source};

use crate::Error;

/// A file that is read where it is asked.
pub struct FileSource {
    file: RefCell<File>,
    len: u64,
}

impl FileSource {
    /// Opens a file for reading.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let fail = |error: std::io::Error| Error::File {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            let reason = "not a file: give the checkpoint inside it".to_string();
            return Err(Error::File { path: path.display().to_string(), reason });
        }
        Ok(Self { file: RefCell::new(file), len: metadata.len() })
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        check_range(offset, buffer.len(), self.len)?;
        let mut file = self.file.borrow_mut();
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buffer));
        read.map_err(|error| SourceError::Platform(error.to_string()))
    }
}

/// Produced bytes in memory; clones share them.
#[derive(Clone, Default)]
pub struct MemorySink(Rc<RefCell<Vec<u8>>>);

impl MemorySink {
    /// Takes the bytes out. Whole only once the job that writes them has finished.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

impl Sink for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }
}
