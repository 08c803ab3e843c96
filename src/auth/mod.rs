//! Authentication as exchanges without IO.
