//! The Rust examples are beside this file; each is about thirty lines.
