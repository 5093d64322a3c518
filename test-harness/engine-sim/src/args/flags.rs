//! The flags that are still to be read, with `--flag=value` as good as `--flag value` where the
//! engine has it so.

pub(super) struct Flags {
    rest: std::iter::Peekable<std::vec::IntoIter<String>>,
    /// Whether `--flag=value` is split.
    splits: bool,
    /// The value that came with the flag just read.
    joined: Option<String>,
}

impl Flags {
    pub(super) fn new(flags: std::vec::IntoIter<String>, splits: bool) -> Self {
        Self { rest: flags.peekable(), splits, joined: None }
    }

    pub(super) fn next(&mut self) -> Result<Option<String>, String> {
        if let Some(value) = self.joined.take() {
            return Err(format!("unexpected value for argument: {value}"));
        }
        let Some(flag) = self.rest.next() else { return Ok(None) };
        if self.splits
            && flag.starts_with("--")
            && let Some((name, value)) = flag.split_once('=')
        {
            self.joined = Some(value.to_owned());
            return Ok(Some(name.to_owned()));
        }
        Ok(Some(flag))
    }

    pub(super) fn value(&mut self, flag: &str) -> Result<String, String> {
        let value = self.joined.take().or_else(|| self.rest.next());
        value.ok_or_else(|| format!("expected value for argument: {flag}"))
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, flag: &str) -> Result<T, String> {
        self.value(flag)?.parse().map_err(|_| format!("invalid value for argument: {flag}"))
    }

    /// One value or more, up to the next flag.
    pub(super) fn values(&mut self, flag: &str) -> Result<Vec<String>, String> {
        let mut values = vec![self.value(flag)?];
        while let Some(value) = self.rest.next_if(|next| !next.starts_with('-')) {
            values.push(value);
        }
        Ok(values)
    }
}
