//! JuiceFS command lines, community and enterprise.
pub mod shell;
