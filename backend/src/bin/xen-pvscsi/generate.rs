//! The hidden verb generate: manual pages and completions, from the same definition as the command line, for whoever packages the
//! program; and docs/commands.md.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use pvscsi_sg::commands::document;

/// The manual's section: commands of the administrator.
const SECTION: &str = "8";

#[derive(Debug, Args)]
pub struct Generate {
    /// Where the manual pages go: one for the program, one for each verb
    #[arg(long, value_name = "DIR")]
    man: Option<PathBuf>,
    /// Where the completions for bash, zsh and fish go
    #[arg(long, value_name = "DIR")]
    completions: Option<PathBuf>,
    /// Where the table of commands goes
    #[arg(long, value_name = "FILE")]
    commands: Option<PathBuf>,
}

pub fn generate(arguments: &Generate) -> io::Result<()> {
    let Generate { man, completions, commands } = arguments;
    let mut command = super::Cli::command().disable_help_subcommand(true);
    if let Some(directory) = completions {
        fs::create_dir_all(directory)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command, "xen-pvscsi", directory)?;
        }
    }
    if let Some(directory) = man {
        fs::create_dir_all(directory)?;
        command.build();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            page(verb.clone(), directory)?;
        }
        page(command, directory)?;
    }
    commands.as_ref().map_or(Ok(()), |file| fs::write(file, document()))
}

fn page(command: clap::Command, directory: &Path) -> io::Result<()> {
    let source = format!("xen-pvscsi {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).section(SECTION).source(source).manual("Xen");
    man.generate_to(directory).map(drop)
}
