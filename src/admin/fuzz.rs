//! Any text as commands.

use super::Rights;
use super::command::Command;
use super::words::statements;

/// What somebody says to the console: whoever may only look can say nothing that does anything.
pub fn command(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(statements) = statements(&text) else { return };
    for statement in statements {
        assert!(!statement.words.is_empty() && text.contains(statement.text.as_str()));
        let _ = statement.text_from(1);
        let Ok(command) = Command::parse(&statement) else {
            continue;
        };
        let looks = matches!(
            &command,
            Command::Show(_)
                | Command::Help
                | Command::Ask(_)
                | Command::Harmless(_)
                | Command::Begin(_)
                | Command::End(_)
                | Command::Deallocate(_)
        );
        let needs = if looks { Rights::Stats } else { Rights::Admin };
        assert_eq!(command.needs(), needs, "{command:?}");
        assert!(command.spoken().starts_with(command.word()));
    }
}
