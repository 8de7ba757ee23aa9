use galen_core::{Code, Digest, Refusal};
pub(super) struct Served {
    pub(super) model: Digest,
}
impl Served {
    pub(super) fn load(digest: Digest, _bytes: &[u8], _bits: u32) -> Result<Self, String> {
        Ok(Self { model: digest })
    }
    pub(super) fn preset(&self) -> &str {
        "none"
    }
    pub(super) fn evaluate(
        &self,
        _key: &[u8],
        _batch: &[u8],
        _progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::new(Code::EvaluationFailed, "not linked"))
    }
}
