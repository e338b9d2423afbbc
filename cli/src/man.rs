//! `walctl completions` and `walctl man`, made from the command line's own description.

use clap::CommandFactory;

use crate::args::{CompletionsArgs, ManArgs, Walctl};
use crate::failure::{Exit, Failure, Result};
use crate::output::Out;

/// Prints completions for a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Walctl::command(), "walctl", &mut script);
    print(&script)
}

/// Prints the manual page, or writes all of them.
pub(crate) fn man(args: &ManArgs) -> Result<Exit> {
    let command = Walctl::command().disable_help_subcommand(true);
    if let Some(dir) = &args.dir {
        if !dir.is_dir() {
            return Err(Failure::usage(format!("{} is not a directory; make it first", dir.display())));
        }
        clap_mangen::generate_to(command, dir)
            .map_err(|error| Failure::io(format!("write manual pages to {}", dir.display()), error))?;
        return Ok(Exit::Fine);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(|error| Failure::io("make the manual page", error))?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<Exit> {
    let mut out = Out::new();
    out.bytes(bytes)?;
    out.finish()?;
    Ok(Exit::Fine)
}
