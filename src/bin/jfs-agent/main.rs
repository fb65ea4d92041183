//! The in-pod agent: holds FUSE descriptors and supervises the JuiceFS client.
fn main() {}
