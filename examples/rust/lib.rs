//! The examples are in this folder; each is about thirty lines.
