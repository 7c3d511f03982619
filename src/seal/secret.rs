//! The type that plain secret bytes travel in.

use zeroize::Zeroizing;

/// Plain secret bytes. They are wiped when dropped, and the type has neither `Debug`, `Display` nor
/// a serialiser, so that they reach a log, an error or an answer only through [`Self::expose`],
/// which a search finds.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> SecretBytes {
        SecretBytes(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Each caller is a door that secret bytes leave through.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Asks a rule about the bytes. What it says holds none of them, and a function keeps nothing.
    ///
    /// # Errors
    /// What the rule says is wrong with them.
    pub fn judge(&self, rule: fn(&[u8]) -> Result<(), String>) -> Result<(), String> {
        rule(&self.0)
    }

    /// Hands the bytes over to a message that is about to be encoded; wiping is then up to its
    /// buffer, which the process's allocator clears when it is freed.
    pub fn expose_into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
