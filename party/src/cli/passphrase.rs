//! The passphrase of a backup: from a file, from the environment, or from the terminal without echo. Never from the command line, which
//! every user of the machine may read.

use super::args::PassphraseArgs;
use super::output::complain;
use crate::PartyError;
use crate::backup::BackupError;
use zeroize::Zeroizing;

/// Environment variable that holds the passphrase, for automation.
const VARIABLE: &str = "GALEN_PASSPHRASE";

/// Longest line that is taken for a passphrase.
const MOST: u64 = 4096;

/// The passphrase; with `twice`, what is typed must be typed again.
pub(super) fn read(args: &PassphraseArgs, twice: bool) -> Result<Zeroizing<Vec<u8>>, PartyError> {
    if let Some(path) = &args.passphrase_file {
        let len = std::fs::metadata(path).map_err(PartyError::file(path))?.len();
        if len > MOST {
            let long = format!("{} is longer than {MOST} bytes", path.display());
            return Err(BackupError::NoPassphrase(long).into());
        }
        let bytes = Zeroizing::new(crate::home::read(path)?);
        return given(first_line(&bytes), &path.display().to_string());
    }
    if let Some(value) = std::env::var_os(VARIABLE) {
        let bytes = Zeroizing::new(value.into_encoded_bytes());
        return given(&bytes, VARIABLE);
    }
    let typed = ask("Passphrase of the backup: ")?;
    if twice && ask("The same again: ")? != typed {
        return Err(BackupError::NoPassphrase("the two that were typed differ".into()).into());
    }
    given(&typed, "the terminal")
}

fn first_line(bytes: &[u8]) -> &[u8] {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn given(bytes: &[u8], from: &str) -> Result<Zeroizing<Vec<u8>>, PartyError> {
    if bytes.is_empty() {
        return Err(BackupError::NoPassphrase(format!("{from} gives an empty one")).into());
    }
    Ok(Zeroizing::new(bytes.to_vec()))
}

fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>, PartyError> {
    // The prompt goes to the terminal itself; here only that there is none is told.
    let typed = rpassword::prompt_password(prompt).map_err(|error| {
        complain("There is no terminal to ask at.");
        BackupError::NoPassphrase(format!("it cannot be asked for: {error}"))
    })?;
    Ok(Zeroizing::new(typed.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_first_line() {
        for text in ["pass phrase", "pass phrase\n", "pass phrase\r\nnext\n"] {
            assert_eq!(first_line(text.as_bytes()), b"pass phrase");
        }
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("p");
        let args = PassphraseArgs {
            passphrase_file: Some(path.clone()),
        };
        assert!(matches!(read(&args, false), Err(PartyError::File { .. })));
        for (text, fits) in [("from a file\n", true), ("\nsecond line", false), ("", false)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&args, true).is_ok(), fits, "{text:?}");
        }
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(read(&args, false).unwrap_err().to_string().contains("longer"));
    }
}
