//! HOCON, as far as one document goes: `include` is refused and nothing of the environment is read.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use crate::config::DEPTH_MAX;
use crate::vault::{Fault, merge};

/// The most that substitutions may put in, in bytes.
const SUBSTITUTED_MAX: usize = 1024 * 1024;
/// Nested values and substitutions that lead on to each other, together.
const STEPS_MAX: usize = 200;

enum Node {
    Leaf(Value),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
    /// What stands on one line, each with the white space before it.
    Concat(Vec<(String, Node)>, usize),
    Sub {
        path: Vec<String>,
        optional: bool,
        at: usize,
    },
    /// `+=`
    Append(Box<Node>, usize),
    /// Later on top of earlier; kept apart where a substitution decides what they are.
    Stack(Vec<Node>),
}

/// Reads a document into an object.
///
/// # Errors
/// With line and column.
pub fn parse(text: &str) -> Result<Value, Fault> {
    read(text).map_err(|(at, message)| {
        let (line, column) = position(text, at);
        Fault {
            line: Some(line),
            column: Some(column),
            message,
        }
    })
}

/// Line and column of the innermost of these keys (outermost first) that stands in a document that can be read; of the last of several such places.
pub(crate) fn place(text: &str, wanted: &[String]) -> Option<(usize, usize)> {
    let mut reader = Reader::new(text, wanted);
    document(&mut reader).ok()?;
    reader.found.map(|(_, at)| position(text, at))
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

type Bad = (usize, String);

fn read(text: &str) -> Result<Value, Bad> {
    let root = Node::Map(document(&mut Reader::new(text, &[]))?);
    let mut resolver = Resolver {
        root: &root,
        done: HashMap::new(),
        open: Vec::new(),
        spent: 0,
        steps: 0,
    };
    let value = resolver.value(&root, &mut Vec::new())?;
    Ok(value.unwrap_or_else(|| Value::Object(Map::new())))
}

fn document(reader: &mut Reader) -> Result<BTreeMap<String, Node>, Bad> {
    reader.blank();
    Ok(match reader.peek() {
        Some('[') => return Err((reader.at, "a vault is a map of keys and values, not a list".into())),
        Some('{') => {
            reader.at += 1;
            let map = reader.fields(1, true)?;
            reader.blank();
            if reader.peek().is_some() {
                return Err((reader.at, "there is more after the closing `}`".into()));
            }
            map
        }
        _ => reader.fields(1, false)?,
    })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// The keys whose place is looked for, outermost first.
    wanted: &'a [String],
    /// How many of them lead to the map that is being read, if it is on their way.
    under: Option<usize>,
    /// How many of them were met at most, and where the last of those began.
    found: Option<(usize, usize)>,
}

fn special(character: char) -> bool {
    "$\"{}[]:=,+#`^?!@*&\\".contains(character)
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, wanted: &'a [String]) -> Reader<'a> {
        Reader {
            text,
            at: if text.starts_with('\u{FEFF}') { 3 } else { 0 },
            wanted,
            under: Some(0),
            found: None,
        }
    }

    /// Whether this key is on the way to the one that is looked for; what comes below it is, if all of its parts are.
    fn meet(&mut self, path: &[String], at: usize) {
        let under = self.under;
        let rest = under.map_or(&[][..], |under| &self.wanted[under..]);
        let met = rest
            .iter()
            .zip(path)
            .take_while(|(wanted, part)| wanted == part)
            .count();
        let reached = under.unwrap_or(0) + met;
        if met > 0 && self.found.is_none_or(|(most, _)| reached >= most) {
            self.found = Some((reached, at));
        }
        self.under = under.filter(|_| met == path.len()).map(|under| under + met);
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn comment(&self) -> bool {
        self.rest().starts_with('#') || self.rest().starts_with("//")
    }

    /// White space on the line.
    fn space(&mut self) -> String {
        let start = self.at;
        while let Some(c) = self
            .peek()
            .filter(|c| *c != '\n' && (c.is_whitespace() || *c == '\u{FEFF}'))
        {
            self.at += c.len_utf8();
        }
        self.text[start..self.at].to_owned()
    }

    /// White space, line ends and comments.
    fn blank(&mut self) {
        loop {
            self.space();
            if self.comment() {
                self.at += self.rest().find('\n').unwrap_or(self.rest().len());
            } else if self.peek() == Some('\n') {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn deep(&self, depth: usize) -> Result<(), Bad> {
        if depth > DEPTH_MAX {
            return Err((self.at, format!("it is nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(())
    }

    fn fields(&mut self, depth: usize, braces: bool) -> Result<BTreeMap<String, Node>, Bad> {
        self.deep(depth)?;
        let start = self.at;
        let mut map = BTreeMap::new();
        loop {
            self.blank();
            match self.peek() {
                None if braces => return Err((start, "this `{` is never closed".into())),
                None => return Ok(map),
                Some('}') if braces => {
                    self.at += 1;
                    return Ok(map);
                }
                Some('}') => return Err((self.at, "this `}` closes nothing".into())),
                _ => {}
            }
            let key_at = self.at;
            let path = self.path(true)?;
            let inner = depth + path.len();
            self.deep(inner - 1)?;
            let under = self.under;
            self.meet(&path, key_at);
            let node = match self.peek() {
                Some('{') => self.line(inner)?,
                Some('+') if self.rest().starts_with("+=") => {
                    self.at += 2;
                    self.blank();
                    Node::Append(Box::new(self.line(inner + 1)?), key_at)
                }
                Some('=' | ':') => {
                    self.at += 1;
                    self.blank();
                    self.line(inner)?
                }
                _ => return Err((self.at, "after a key comes `=`, `:` or `{`".into())),
            };
            self.under = under;
            put(&mut map, path, node);
            self.separator('}')?;
        }
    }

    /// A comma or a line end, or what closes the whole.
    fn separator(&mut self, close: char) -> Result<(), Bad> {
        let start = self.at;
        self.blank();
        match self.peek() {
            Some(',') => self.at += 1,
            None => {}
            Some(c) if c == close => {}
            _ if self.text[start..self.at].contains('\n') => {}
            _ => return Err((self.at, "here a comma or a new line is needed".into())),
        }
        Ok(())
    }

    fn path(&mut self, key: bool) -> Result<Vec<String>, Bad> {
        let start = self.at;
        let mut parts = Vec::new();
        let (mut part, mut some, mut space) = (String::new(), false, String::new());
        loop {
            match self.peek() {
                Some('"') => {
                    part.push_str(&space);
                    part.push_str(&self.quoted()?);
                    (some, space) = (true, String::new());
                }
                Some('.') => {
                    if !some {
                        return Err((self.at, "a key has an empty part".into()));
                    }
                    self.at += 1;
                    parts.push(std::mem::take(&mut part));
                    self.deep(parts.len())?;
                    (some, space) = (false, String::new());
                }
                Some(c) if c != '\n' && c.is_whitespace() => {
                    let more = self.space();
                    if key
                        && parts.is_empty()
                        && part == "include"
                        && !self.rest().starts_with([':', '=', '{', '+', '.'])
                    {
                        return Err((
                            start,
                            "`include` is not possible in a vault: write the content itself".into(),
                        ));
                    }
                    if some {
                        space = more;
                    }
                }
                Some(c) if !special(c) && c != '\n' && !self.comment() => {
                    part.push_str(&space);
                    part.push(c);
                    self.at += c.len_utf8();
                    (some, space) = (true, String::new());
                }
                _ => break,
            }
        }
        if !some {
            return Err((self.at, "here a key is needed".into()));
        }
        parts.push(part);
        Ok(parts)
    }

    fn quoted(&mut self) -> Result<String, Bad> {
        let start = self.at;
        let open = || (start, "this quote is never closed".to_owned());
        if self.rest().starts_with("\"\"\"") {
            let rest = &self.rest()[3..];
            let mut end = rest.find("\"\"\"").ok_or_else(open)?;
            // More quotes at the end are part of the text.
            end += rest[end + 3..].bytes().take_while(|byte| *byte == b'"').count();
            let text = rest[..end].to_owned();
            self.at += end + 6;
            return Ok(text);
        }
        let mut bytes = self.rest().bytes().enumerate().skip(1);
        let end = loop {
            match bytes.next() {
                Some((_, b'\\')) => {
                    bytes.next();
                }
                Some((end, b'"')) => break end,
                None | Some((_, b'\n')) => return Err(open()),
                _ => {}
            }
        };
        let raw = self.rest().get(..=end).ok_or_else(open)?;
        let text = serde_json::from_str(raw).map_err(|_| {
            (
                start,
                "this text holds an escape or a character that is not allowed in quotes".into(),
            )
        })?;
        self.at += end + 1;
        Ok(text)
    }

    /// A value: all that stands on the line up to a comma or what closes.
    fn line(&mut self, depth: usize) -> Result<Node, Bad> {
        self.deep(depth)?;
        let start = self.at;
        let mut pieces: Vec<(String, Node, bool)> = Vec::new();
        loop {
            let space = self.space();
            if self.comment() {
                break;
            }
            let mut unquoted = false;
            let node = match self.peek() {
                None | Some('\n' | ',' | '}' | ']') => break,
                Some('"') => Node::Leaf(self.quoted()?.into()),
                Some('{') => {
                    self.at += 1;
                    Node::Map(self.fields(depth + 1, true)?)
                }
                Some('[') => self.list(depth + 1)?,
                Some('$') => self.substitution()?,
                Some(c) if special(c) => {
                    return Err((
                        self.at,
                        format!("`{c}` cannot stand here; text with it is written in quotes"),
                    ));
                }
                Some(_) => {
                    unquoted = true;
                    let from = self.at;
                    while let Some(c) = self.peek().filter(|c| !special(*c) && !c.is_whitespace()) {
                        if self.comment() {
                            break;
                        }
                        self.at += c.len_utf8();
                    }
                    Node::Leaf(self.text[from..self.at].into())
                }
            };
            pieces.push((space, node, unquoted));
        }
        if pieces.is_empty() {
            return Err((start, "here a value is needed".into()));
        }
        if pieces.len() == 1 {
            let (_, node, unquoted) = pieces.remove(0);
            return Ok(match node {
                Node::Leaf(Value::String(text)) if unquoted => Node::Leaf(typed(text)),
                other => other,
            });
        }
        let mut pieces: Vec<_> = pieces.into_iter().map(|(space, node, _)| (space, node)).collect();
        if let Some(first) = pieces.first_mut() {
            first.0.clear();
        }
        Ok(Node::Concat(pieces, start))
    }

    fn list(&mut self, depth: usize) -> Result<Node, Bad> {
        let start = self.at;
        self.at += 1;
        let under = self.under.take();
        let mut items = Vec::new();
        loop {
            self.blank();
            match self.peek() {
                None => return Err((start, "this `[` is never closed".into())),
                Some(']') => {
                    self.at += 1;
                    self.under = under;
                    return Ok(Node::List(items));
                }
                _ => items.push(self.line(depth)?),
            }
            self.separator(']')?;
        }
    }

    fn substitution(&mut self) -> Result<Node, Bad> {
        let at = self.at;
        if !self.rest().starts_with("${") {
            return Err((at, "`$` cannot stand here; text with it is written in quotes".into()));
        }
        self.at += 2;
        let optional = self.peek() == Some('?');
        self.at += usize::from(optional);
        self.space();
        let path = self.path(false)?;
        if self.peek() != Some('}') {
            return Err((at, "this `${` is never closed".into()));
        }
        self.at += 1;
        Ok(Node::Sub { path, optional, at })
    }
}

fn typed(text: String) -> Value {
    match text.as_str() {
        "true" => true.into(),
        "false" => false.into(),
        "null" => Value::Null,
        _ if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
            serde_json::from_str::<serde_json::Number>(&text).map_or(Value::String(text), Value::Number)
        }
        _ => Value::String(text),
    }
}

fn put(map: &mut BTreeMap<String, Node>, path: Vec<String>, node: Node) {
    let mut parts = path.into_iter().rev();
    let Some(last) = parts.next() else { return };
    let node = parts.fold((last, node), |(key, node), outer| {
        (outer, Node::Map(BTreeMap::from([(key, node)])))
    });
    join(map, node.0, node.1);
}

fn join(map: &mut BTreeMap<String, Node>, key: String, node: Node) {
    match (map.get_mut(&key), node) {
        (Some(Node::Map(under)), Node::Map(over)) => {
            for (key, node) in over {
                join(under, key, node);
            }
        }
        (None, node @ Node::Append(..)) => {
            map.insert(key, Node::Stack(vec![node]));
        }
        (None, node) | (Some(_), node @ Node::Leaf(_)) => {
            map.insert(key, node);
        }
        (Some(Node::Stack(all)), node) => all.push(node),
        (Some(old), node) => {
            let under = std::mem::replace(old, Node::Leaf(Value::Null));
            *old = Node::Stack(vec![under, node]);
        }
    }
}

struct Resolver<'a> {
    root: &'a Node,
    /// What substitutions have found, by path.
    done: HashMap<Vec<String>, Option<Value>>,
    /// Being worked out, each with what stood there before.
    open: Vec<(Vec<String>, Option<Value>)>,
    spent: usize,
    steps: usize,
}

impl<'a> Resolver<'a> {
    fn value(&mut self, node: &'a Node, path: &mut Vec<String>) -> Result<Option<Value>, Bad> {
        // Bounds the recursion: an error ends all, so only success counts down again.
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err((0, "the substitutions lead on to each other too often".into()));
        }
        let value = self.whole(node, path)?;
        self.steps -= 1;
        Ok(value)
    }

    fn whole(&mut self, node: &'a Node, path: &mut Vec<String>) -> Result<Option<Value>, Bad> {
        match node {
            Node::Leaf(value) => Ok(Some(value.clone())),
            Node::Map(map) => {
                let mut object = Map::new();
                for (key, node) in map {
                    path.push(key.clone());
                    let value = self.value(node, path)?;
                    path.pop();
                    if let Some(value) = value {
                        object.insert(key.clone(), value);
                    }
                }
                Ok(Some(Value::Object(object)))
            }
            Node::List(items) => {
                let mut list = Vec::new();
                for item in items {
                    list.extend(self.value(item, path)?);
                }
                Ok(Some(Value::Array(list)))
            }
            Node::Stack(layers) => self.layers(layers, path),
            other => self.layers(std::slice::from_ref(other), path),
        }
    }

    fn layers(&mut self, layers: &'a [Node], path: &mut Vec<String>) -> Result<Option<Value>, Bad> {
        let mut value = None;
        for layer in layers {
            if let Node::Append(item, at) = layer {
                self.open.push((path.clone(), value));
                let item = self.value(item, path)?;
                value = self.open.pop().and_then(|(_, before)| before);
                match &mut value {
                    None => value = Some(Value::Array(item.into_iter().collect())),
                    Some(Value::Array(list)) => list.extend(item),
                    Some(_) => return Err((*at, "`+=` adds to a list, and this is none".into())),
                }
                continue;
            }
            self.open.push((path.clone(), value));
            let over = match layer {
                Node::Sub { path, optional, at } => self.find(path, *optional, *at)?,
                Node::Concat(pieces, at) => self.concat(pieces, *at, path)?,
                other => self.value(other, path)?,
            };
            value = self.open.pop().and_then(|(_, before)| before);
            value = match (value, over) {
                (before, None) => before,
                (Some(before @ Value::Object(_)), Some(over @ Value::Object(_))) => Some(merge(before, &over)),
                (_, over) => over,
            };
        }
        Ok(value)
    }

    fn concat(
        &mut self,
        pieces: &'a [(String, Node)],
        at: usize,
        path: &mut Vec<String>,
    ) -> Result<Option<Value>, Bad> {
        let mut whole: Option<Value> = None;
        for (space, piece) in pieces {
            let value = match piece {
                Node::Sub { path, optional, at } => self.find(path, *optional, *at)?,
                other => self.value(other, path)?,
            };
            let Some(value) = value else {
                if let Some(Value::String(text)) = &mut whole {
                    text.push_str(space);
                }
                continue;
            };
            whole = Some(match (whole, value) {
                (None, value @ (Value::Object(_) | Value::Array(_))) => value,
                (None, value) => Value::String(plain(value)),
                (Some(under @ Value::Object(_)), over @ Value::Object(_)) => merge(under, &over),
                (Some(Value::Array(mut list)), Value::Array(more)) => {
                    list.extend(more);
                    Value::Array(list)
                }
                (Some(Value::String(mut text)), value) if !value.is_object() && !value.is_array() => {
                    text.push_str(space);
                    text.push_str(&plain(value));
                    Value::String(text)
                }
                _ => return Err((at, "text, lists and maps cannot be put together in one value".into())),
            });
        }
        Ok(whole)
    }

    fn find(&mut self, path: &[String], optional: bool, at: usize) -> Result<Option<Value>, Bad> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err((at, "the substitutions lead on to each other too often".into()));
        }
        let found = self.look(path, at)?;
        self.steps -= 1;
        self.spent += 1 + found.as_ref().map_or(0, size);
        if self.spent > SUBSTITUTED_MAX {
            return Err((
                at,
                format!("the substitutions put in more than {SUBSTITUTED_MAX} bytes"),
            ));
        }
        match found {
            None if !optional => Err((
                at,
                format!(
                    "`${{{}}}` is nowhere in this document, or refers to itself",
                    path.join(".")
                ),
            )),
            found => Ok(found),
        }
    }

    fn look(&mut self, path: &[String], at: usize) -> Result<Option<Value>, Bad> {
        let mut node = self.root;
        for length in 0..=path.len() {
            let (here, rest) = path.split_at(length);
            if let Node::Map(map) = node
                && let Some(key) = rest.first()
            {
                match map.get(key) {
                    Some(next) => node = next,
                    None => return Ok(None),
                }
                continue;
            }
            let within = |value: &Value| rest.iter().try_fold(value, |value, key| value.get(key)).cloned();
            if let Some((_, before)) = self.open.iter().rev().find(|(open, _)| open == here) {
                return Ok(before.as_ref().and_then(within));
            }
            if self.open.iter().any(|(open, _)| open.starts_with(here)) {
                return Err((at, format!("`${{{}}}` refers to itself", path.join("."))));
            }
            if let Some(value) = self.done.get(here) {
                return Ok(value.as_ref().and_then(within));
            }
            let value = self.value(node, &mut here.to_vec())?;
            let found = value.as_ref().and_then(within);
            self.done.insert(here.to_vec(), value);
            return Ok(found);
        }
        Ok(None)
    }
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 1 + size(item)).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| 1 + key.len() + size(value)).sum(),
        _ => 5,
    }
}
