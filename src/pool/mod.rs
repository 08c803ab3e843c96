//! Who gets which server, when.
