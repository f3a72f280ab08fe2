//! What a question or an assignment is about, as a text: `experiment:12`, `workspace:Stop Signs`, `project:Stop Signs/Euro`, nothing for the installation.

use std::fmt;

/// A thing by its kind and its name or id, as it was typed. Whether it is there, and for whom, is the server's question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum On {
    Installation,
    Workspace(String),
    /// Workspace, project. By id alone the workspace is empty.
    Project(String, String),
    /// Id, or name.
    Experiment(String),
    Queue(String),
    Model(String),
    Stack(String),
}

impl On {
    /// A place where something is to be given or taken. An empty text, from a variable that was never set say, must not mean everywhere there.
    ///
    /// # Errors
    /// As [`On::parse`], and that the text is empty.
    pub fn parse_named(text: &str) -> Result<On, String> {
        if text.trim().is_empty() {
            return Err("the place is empty: write `installation` for everywhere, or leave it out".into());
        }
        On::parse(text)
    }

    /// # Errors
    /// Which part cannot be read, and what would be right.
    pub fn parse(text: &str) -> Result<On, String> {
        let text = text.trim();
        if text.is_empty() || text == "installation" || text == "global" {
            return Ok(On::Installation);
        }
        let forms = "write experiment:12, workspace:NAME, project:WORKSPACE/PROJECT, queue:NAME, model:WORKSPACE/NAME, stack:OWNER/NAME, or nothing for the whole installation";
        let Some((kind, name)) = text.split_once(':') else {
            return Err(format!("`{text}` does not say what kind of thing it is; {forms}"));
        };
        if name.is_empty() {
            return Err(format!("`{text}` names nothing; {forms}"));
        }
        let name = name.to_owned();
        Ok(match kind {
            "workspace" => On::Workspace(name),
            "project" if crate::ids::as_number(&name).is_some() => On::Project(String::new(), name),
            // Names from before may hold a slash: the first that leaves something on both sides is taken. By such
            // a name a project is meant by its id alone.
            "project" => match name.split_once('/') {
                Some((workspace, project)) if !workspace.is_empty() && !project.is_empty() => {
                    On::Project(workspace.into(), project.into())
                }
                _ => return Err(format!("`{text}` is not project:WORKSPACE/PROJECT")),
            },
            "experiment" => On::Experiment(name),
            "queue" => On::Queue(name),
            "model" => On::Model(name),
            "stack" => On::Stack(name),
            _ => return Err(format!("there is no kind `{kind}`; {forms}")),
        })
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            On::Installation => f.write_str("installation"),
            On::Workspace(name) => write!(f, "workspace:{name}"),
            On::Project(workspace, name) if workspace.is_empty() => write!(f, "project:{name}"),
            On::Project(workspace, name) => write!(f, "project:{workspace}/{name}"),
            On::Experiment(name) => write!(f, "experiment:{name}"),
            On::Queue(name) => write!(f, "queue:{name}"),
            On::Model(name) => write!(f, "model:{name}"),
            On::Stack(name) => write!(f, "stack:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_reads_back() {
        for text in [
            "installation",
            "workspace:Stop Signs",
            "project:Stop Signs/Euro",
            "project:7",
            "experiment:12",
            "queue:a:b",
            "model:Stop Signs/detector",
            "stack:ana/gpu",
        ] {
            assert_eq!(On::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(On::parse(""), Ok(On::Installation));
        assert!(On::parse_named(" ").is_err());
        for bad in ["twelve", "experiment:", "project:a", "planet:earth"] {
            assert!(On::parse(bad).is_err(), "{bad}");
        }
    }
}
