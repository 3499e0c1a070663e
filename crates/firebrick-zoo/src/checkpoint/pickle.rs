//! Which Python names a pickle asks for, found without running any of it.
//!
//! A pickle is a program for a small stack machine, and a name in it may be called. Whatever becomes of the result,
//! even if it is thrown away at once, a file that names anything but tensors' building blocks is refused here,
//! before a reader sees it. The opcodes are those of Python's `pickletools`, protocols 0 to 5.

use std::collections::HashMap;

/// Names that stand for data or a tensor's parts. PyTorch's own careful loader (`torch.load` with `weights_only`)
/// takes these and few others.
const HARMLESS: &[&str] = &[
    "__builtin__.bytearray",
    "__builtin__.complex",
    "__builtin__.int",
    "__builtin__.long",
    "__builtin__.set",
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.dict",
    "builtins.int",
    "builtins.list",
    "builtins.set",
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "torch.Size",
    "torch.Tensor",
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch.device",
    "torch.nn.parameter.Buffer",
    "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
    "torch.storage.TypedStorage",
    "torch.storage.UntypedStorage",
];

/// Types of numbers and their storages, of which PyTorch has one each.
const NUMBERS: &[&str] = &[
    "BFloat16",
    "Bool",
    "Byte",
    "Char",
    "ComplexDouble",
    "ComplexFloat",
    "Double",
    "Float",
    "Half",
    "Int",
    "Long",
    "Short",
    "Untyped",
    "bfloat16",
    "bool",
    "complex128",
    "complex64",
    "float16",
    "float32",
    "float64",
    "int16",
    "int32",
    "int64",
    "int8",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
];

/// What is wrong with a pickle.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// It asks for a name that is not harmless.
    Name(String),
    /// It ends within an instruction, or has one that no protocol has; in words that follow its name.
    Malformed(String),
    /// It has more instructions than were allowed, so many.
    TooLong(usize),
}

fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name)
        || name.strip_prefix("torch.").is_some_and(|name| {
            NUMBERS.contains(&name)
                || name.strip_suffix("Storage").is_some_and(|kind| NUMBERS.contains(&kind))
        })
}

/// Reads the pickle at the start of `bytes`, of at most `most` instructions, and returns how long it is. A reader makes an object of each
/// instruction, whose one byte may become two hundred.
///
/// # Errors
///
/// The first name that is not harmless, an instruction that cannot be read, or one more than `most`.
pub(super) fn scan(bytes: &[u8], most: usize) -> Result<usize, Objection> {
    let mut reader = Reader { bytes, place: 0 };
    // Names are pushed as two texts before `STACK_GLOBAL`. Pickle programs written by Python push them right before it,
    // but for notes to the memo; where anything else lies between, what is on the stack is not guessed.
    let mut texts: [Option<&[u8]>; 2] = [None, None];
    let mut memo: HashMap<u64, Option<&[u8]>> = HashMap::new();
    for _ in 0..most {
        let code = reader.byte()?;
        let mut pushed = None;
        match code {
            b'.' => return Ok(reader.place),
            // A name in the instruction itself: GLOBAL and INST.
            b'c' | b'i' => {
                let name = dotted(reader.line()?, reader.line()?);
                if !is_harmless(&name) {
                    return Err(Objection::Name(name));
                }
            }
            0x93 => match texts {
                [Some(module), Some(name)] => {
                    let name = dotted(module, name);
                    if !is_harmless(&name) {
                        return Err(Objection::Name(name));
                    }
                }
                _ => return Err(Objection::Name("a name that it computes".to_owned())),
            },
            // Names by number, from a registry that the program must fill itself.
            0x82..=0x84 => return Err(Objection::Name("an extension by its number".to_owned())),
            // Texts.
            b'S' | b'V' => pushed = Some(unquoted(reader.line()?)),
            b'U' | 0x8c => pushed = Some(reader.sized(1)?),
            b'X' | b'T' => pushed = Some(reader.sized(4)?),
            0x8d => pushed = Some(reader.sized(8)?),
            // Notes of the top of the stack, which they leave as it is: PUT, BINPUT, LONG_BINPUT, MEMOIZE. FRAME is none, and also
            // leaves the stack alone.
            b'p' | b'q' | b'r' | 0x94 => {
                let key = match code {
                    b'p' => reader.key()?,
                    b'q' => reader.number(1)?,
                    b'r' => reader.number(4)?,
                    // MEMOIZE numbers its notes by how many there are.
                    _ => memo.len() as u64,
                };
                memo.insert(key, texts[1]);
                continue;
            }
            0x95 => {
                reader.skip(8)?;
                continue;
            }
            b'g' | b'h' | b'j' => {
                let key = match code {
                    b'g' => reader.key()?,
                    b'h' => reader.number(1)?,
                    _ => reader.number(4)?,
                };
                pushed = memo.get(&key).copied().flatten();
            }
            // Numbers and identities as lines of text.
            b'I' | b'L' | b'F' | b'P' => {
                reader.line()?;
            }
            0x80 | b'K' => reader.skip(1)?,
            b'M' => reader.skip(2)?,
            b'J' => reader.skip(4)?,
            b'G' => reader.skip(8)?,
            // Long numbers and bytes, with their length before them.
            0x8a | b'C' => reader.skip_sized(1)?,
            0x8b | b'B' => reader.skip_sized(4)?,
            0x8e | 0x96 => reader.skip_sized(8)?,
            b'('
            | b'0'
            | b'1'
            | b'2'
            | b'N'
            | b'R'
            | b'b'
            | b'd'
            | b'l'
            | b't'
            | b's'
            | b'a'
            | b')'
            | b']'
            | b'}'
            | b'e'
            | b'u'
            | b'Q'
            | b'o'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x92
            | 0x97
            | 0x98 => {}
            other => {
                return Err(malformed(&format!("has the instruction {other:#04x}, which no protocol has")));
            }
        }
        let [_, before] = texts;
        texts = match pushed {
            Some(text) => [before, Some(text)],
            None => [None, None],
        };
    }
    Err(Objection::TooLong(most))
}

/// A name of two parts.
fn dotted(module: &[u8], name: &[u8]) -> String {
    format!("{}.{}", String::from_utf8_lossy(module), String::from_utf8_lossy(name))
}

/// A text without the quotation marks around it.
fn unquoted(mut text: &[u8]) -> &[u8] {
    while let [b'\'' | b'"', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b'\'' | b'"'] = text {
        text = rest;
    }
    text
}

fn malformed(what: &str) -> Objection {
    Objection::Malformed(what.to_owned())
}

struct Reader<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], Objection> {
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| self.bytes.get(self.place..self.place.checked_add(count)?))
            .ok_or_else(|| malformed("ends in the middle of an instruction"))?;
        self.place += taken.len();
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Objection> {
        Ok(self.take(1)?[0])
    }

    fn skip(&mut self, count: u64) -> Result<(), Objection> {
        self.take(count).map(drop)
    }

    fn number(&mut self, size: u64) -> Result<u64, Objection> {
        Ok(self.take(size)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn skip_sized(&mut self, size: u64) -> Result<(), Objection> {
        let count = self.number(size)?;
        self.skip(count)
    }

    fn sized(&mut self, size: u64) -> Result<&'a [u8], Objection> {
        let count = self.number(size)?;
        self.take(count)
    }

    fn line(&mut self) -> Result<&'a [u8], Objection> {
        let rest = &self.bytes[self.place..];
        let end = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or_else(|| malformed("ends in the middle of an instruction"))?;
        self.place += end + 1;
        let mut line = &rest[..end];
        while let [before @ .., b'\r'] = line {
            line = before;
        }
        Ok(line)
    }

    /// A memo's key as a line of text.
    fn key(&mut self) -> Result<u64, Objection> {
        let line = std::str::from_utf8(self.line()?).ok();
        line.and_then(|line| line.parse().ok())
            .ok_or_else(|| malformed("notes something under a key that is no number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Result<usize, Objection> {
        super::scan(bytes, 1000)
    }

    /// `collections.OrderedDict`, then the name of protocol 4 in `texts`.
    fn stack_global(texts: &[u8]) -> Vec<u8> {
        [b"\x80\x04", texts, b"\x93."].concat()
    }

    #[test]
    fn the_length_of_a_pickle_is_known() {
        assert_eq!(scan(b"\x80\x02}(X\x01\x00\x00\x00aK\x01u.rest"), Ok(14));
    }

    #[test]
    fn the_instructions_are_counted() {
        let pickle = b"\x80\x02}q\x000NN.";
        assert_eq!(super::scan(pickle, 7), Ok(pickle.len()));
        assert_eq!(super::scan(pickle, 6), Err(Objection::TooLong(6)));
    }

    #[test]
    fn a_harmless_name_is_taken_in_every_spelling() {
        assert_eq!(scan(b"\x80\x02ccollections\nOrderedDict\n)R."), Ok(30));
        assert!(scan(&stack_global(b"\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94")).is_ok());
        assert!(scan(b"\x80\x02ctorch\nFloatStorage\n.").is_ok());
        // From the memo, as the second tensor of a file of protocol 4 names it.
        assert!(scan(&stack_global(b"\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93h\x00h\x01")).is_ok());
    }

    #[test]
    fn a_call_whose_result_is_dropped_is_found() {
        let pickle = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R0}.";
        assert_eq!(scan(pickle), Err(Objection::Name("os.system".to_owned())));
    }

    #[test]
    fn a_name_that_is_only_mentioned_is_found() {
        assert_eq!(scan(b"\x80\x02cbuiltins\neval\n0}."), Err(Objection::Name("builtins.eval".to_owned())));
        assert_eq!(scan(b"(iposix\nsystem\n."), Err(Objection::Name("posix.system".to_owned())));
    }

    #[test]
    fn a_name_of_protocol_4_is_found_though_it_comes_from_the_memo() {
        for texts in [
            &b"\x8c\x02os\x8c\x06system"[..],
            b"\x8c\x02os\x94\x8c\x06system\x94",
            b"\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01",
        ] {
            assert_eq!(scan(&stack_global(texts)), Err(Objection::Name("os.system".to_owned())), "{texts:?}");
        }
    }

    #[test]
    fn a_harmless_name_above_the_one_that_is_taken_deceives_nobody() {
        // OrderedDict is pushed and dropped again, so that what is left on the stack is `os.system`.
        let texts = b"\x8c\x02os\x8c\x06system\x8c\x0bcollections\x8c\x0bOrderedDict00";
        assert!(matches!(scan(&stack_global(texts)), Err(Objection::Name(_))));
        // A note under a key that MEMOIZE is about to use.
        let texts =
            b"\x8c\x0bcollections\x94\x8c\x02osq\x00\x8c\x06system\x94\x8c\x0bOrderedDict\x94h\x00h\x01";
        assert!(matches!(scan(&stack_global(texts)), Err(Objection::Name(_))));
    }

    #[test]
    fn names_by_number_are_refused() {
        assert!(matches!(scan(b"\x80\x02\x82\x05."), Err(Objection::Name(_))));
    }

    #[test]
    fn a_pickle_cut_anywhere_is_malformed() {
        let whole = b"\x80\x02ccollections\nOrderedDict\n)RX\x03\x00\x00\x00abcq\x00G\x00\x00\x00\x00\x00\x00\x00\x00.";
        assert_eq!(scan(whole), Ok(whole.len()));
        for length in 0..whole.len() {
            assert!(matches!(scan(&whole[..length]), Err(Objection::Malformed(_))), "{length}");
        }
        // Lengths that no file has.
        for pickle in [
            &b"X\xff\xff\xff\xff"[..],
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab",
        ] {
            assert!(matches!(scan(pickle), Err(Objection::Malformed(_))));
        }
        assert!(matches!(scan(b"\xff"), Err(Objection::Malformed(_))));
    }
}
