//! The terminal a person sits at: raw input, its size, hidden input.

use std::io::{self, IsTerminal as _, Stdin};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether both sides of the conversation are a terminal.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// A change of the terminal's mode that is undone when this is dropped.
pub(crate) struct Mode {
    stdin: Stdin,
    before: Termios,
}

impl Mode {
    /// Every key goes through as it is.
    pub(crate) fn raw() -> io::Result<Self> {
        Self::changed(Termios::make_raw)
    }

    /// What is typed is not shown.
    pub(crate) fn hidden() -> io::Result<Self> {
        Self::changed(|termios| termios.local_modes.remove(LocalModes::ECHO))
    }

    fn changed(change: impl FnOnce(&mut Termios)) -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut after = before.clone();
        change(&mut after);
        tcsetattr(&stdin, OptionalActions::Flush, &after)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}

/// Columns and rows.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}
