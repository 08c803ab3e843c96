//! A lexer that says what a statement may leave behind.
