//! The one JSON object that a command writes to standard output with `--format json`.
//!
//! `{"ok": true, "command": ..., "result": ...}` or `{"ok": false, "command": ..., "error": {"code", "message", "hint"}}`.

use serde::{Deserialize, Serialize};

/// What went wrong, for programs and people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// A stable code.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

#[derive(Serialize)]
struct Envelope<'a, T: Serialize> {
    ok: bool,
    command: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Trouble>,
}

/// The envelope of a command that did its work.
pub fn success<T: Serialize>(command: &str, result: T) -> serde_json::Result<String> {
    serde_json::to_string(&Envelope {
        ok: true,
        command,
        result: Some(result),
        error: None,
    })
}

/// The envelope of a command that failed.
pub fn failure(command: &str, trouble: &Trouble) -> serde_json::Result<String> {
    serde_json::to_string(&Envelope::<()> {
        ok: false,
        command,
        result: None,
        error: Some(trouble),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_with_a_result_or_an_error() {
        assert_eq!(
            success("status", 7).unwrap(),
            r#"{"ok":true,"command":"status","result":7}"#
        );
        let trouble = Trouble {
            code: "C101".into(),
            message: "no folder".into(),
            hint: "make one".into(),
        };
        let text = failure("status", &trouble).unwrap();
        assert_eq!(
            text,
            r#"{"ok":false,"command":"status","error":{"code":"C101","message":"no folder","hint":"make one"}}"#
        );
    }
}
