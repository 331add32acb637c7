//! Model ops. Each is a folder with a plain reference and what runs.

pub mod attention;
pub mod conv1d;
pub mod gate;
pub mod norm;
pub mod route;
pub mod scan;
pub mod selective_scan;
pub mod softmax;
pub mod ssd;
