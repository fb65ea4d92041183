//! JuiceFS command lines, community and enterprise. NB: being written.
