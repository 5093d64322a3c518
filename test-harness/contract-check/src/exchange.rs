//! A request and its answer, as a test's client saw them.

/// One exchange; headers as they came, names in any case.
#[derive(Debug, Clone, Default)]
pub struct Exchange<'a> {
    /// In capitals.
    pub method: &'a str,
    /// With its query.
    pub target: &'a str,
    pub request: Option<&'a str>,
    pub status: u16,
    pub headers: Vec<(&'a str, &'a str)>,
    /// `None` where the test reads it piece by piece; its events are checked as they come.
    pub body: Option<&'a str>,
}

impl Exchange<'_> {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value)
    }

    /// The content type without its parameters.
    pub(crate) fn kind(&self) -> Option<&str> {
        Some(self.header("content-type")?.split(';').next().unwrap_or_default().trim())
    }
}
