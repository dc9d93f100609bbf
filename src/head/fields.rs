//! The fields of a message, in order.

use std::{fmt, slice, vec};

use bytes::BytesMut;
use http::header::InvalidHeaderName;
use http::{HeaderMap, HeaderName};

use super::{HeaderValue, name, spare};

/// Fields in the order in which they came.
///
/// A list with a mark for each name, a byte of its hash, and one set of all marks: that a name is not there is mostly seen at
/// one look, and where it is by comparing bytes. The work of a look grows with the number of fields, which whoever reads
/// them bounds.
#[derive(Clone, Default)]
pub struct Fields {
    list: Vec<Field>,
    /// Marks of the names that are there, and of some that no longer are.
    marks: u64,
}

impl Drop for Fields {
    fn drop(&mut self) {
        spare::keep(std::mem::take(&mut self.list));
    }
}

#[derive(Clone)]
pub(super) struct Field {
    mark: u8,
    name: HeaderName,
    value: HeaderValue,
}

impl Field {
    fn is(&self, mark: u8, key: &impl Key) -> bool {
        self.mark == mark && key.names(&self.name)
    }
}

/// What a field is looked up by: its name.
pub trait Key {
    /// The name as written.
    fn text(&self) -> &str;

    /// Whether it is `name`.
    fn names(&self, name: &HeaderName) -> bool;
}

impl Key for HeaderName {
    fn text(&self) -> &str {
        self.as_str()
    }

    fn names(&self, name: &HeaderName) -> bool {
        self == name
    }
}

/// In any case.
impl Key for str {
    fn text(&self) -> &str {
        self
    }

    fn names(&self, name: &HeaderName) -> bool {
        name.as_str().eq_ignore_ascii_case(self)
    }
}

impl<K: Key + ?Sized> Key for &K {
    fn text(&self) -> &str {
        (**self).text()
    }

    fn names(&self, name: &HeaderName) -> bool {
        (**self).names(name)
    }
}

/// What a field is named by when it is added.
pub trait Name {
    /// The name.
    fn into_name(self) -> HeaderName;
}

impl Name for HeaderName {
    fn into_name(self) -> HeaderName {
        self
    }
}

impl Name for &HeaderName {
    fn into_name(self) -> HeaderName {
        self.clone()
    }
}

/// One that is written in the source, in small letters.
impl Name for &'static str {
    fn into_name(self) -> HeaderName {
        HeaderName::from_static(self)
    }
}

/// The mark of a name in any case: the upper byte of its hash.
fn mark(name: &str) -> u8 {
    of_hash(name::hash(name.as_bytes()))
}

const fn of_hash(hash: u64) -> u8 {
    hash.to_be_bytes()[0]
}

/// The place of a mark in the set of marks.
const fn bit(mark: u8) -> u64 {
    1 << (mark & 63)
}

impl Fields {
    /// None.
    pub const fn new() -> Self {
        Self { list: Vec::new(), marks: 0 }
    }

    /// None, with room for as many.
    pub fn with_capacity(room: usize) -> Self {
        let mut fields = Self::new();
        fields.reserve(room);
        fields
    }

    /// Makes room for as many more.
    pub fn reserve(&mut self, room: usize) {
        if self.list.capacity() == 0 && room > 0 {
            self.list = spare::take(room);
        }
        self.list.reserve(room);
    }

    fn push(&mut self, field: Field) {
        if self.list.capacity() == 0 {
            self.list = spare::take(0);
        }
        self.marks |= bit(field.mark);
        self.list.push(field);
    }

    /// How many there are; a name that stands twice counts twice.
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The value of the first field of that name.
    pub fn get(&self, name: impl Key) -> Option<&HeaderValue> {
        self.get_all(name).next()
    }

    /// The values of all fields of that name.
    pub fn get_all<K: Key>(&self, name: K) -> GetAll<'_, K> {
        let mark = mark(name.text());
        let list = if self.marks & bit(mark) == 0 { &[] } else { &self.list[..] };
        GetAll { rest: list.iter(), mark, name }
    }

    /// Whether there is a field of that name.
    pub fn contains_key(&self, name: impl Key) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field behind the others.
    pub fn append(&mut self, name: impl Name, value: HeaderValue) {
        let name = name.into_name();
        self.push(Field { mark: mark(name.as_str()), name, value });
    }

    /// Adds a field whose name is written like that, in any case, behind the others.
    ///
    /// # Errors
    /// When the name is no token (RFC 9110 §5.1).
    pub fn append_read(&mut self, name: &[u8], value: HeaderValue) -> Result<(), InvalidHeaderName> {
        let hash = name::hash(name);
        self.push(Field { mark: of_hash(hash), name: name::read(name, hash)?, value });
        Ok(())
    }

    /// Puts one field in the place of the first of that name, or behind the others, and takes away all further ones of it.
    /// What stood there first, if anything did.
    pub fn insert(&mut self, name: impl Name, value: HeaderValue) -> Option<HeaderValue> {
        let name = name.into_name();
        let mark = mark(name.as_str());
        let first =
            if self.marks & bit(mark) == 0 { None } else { self.list.iter().position(|field| field.is(mark, &name)) };
        let Some((first, field)) = first.and_then(|first| Some((first, self.list.get_mut(first)?))) else {
            self.append(name, value);
            return None;
        };
        let before = std::mem::replace(&mut field.value, value);
        let mut at = 0;
        self.list.retain(|field| {
            at += 1;
            at <= first + 1 || !field.is(mark, &name)
        });
        Some(before)
    }

    /// Takes away all fields of that name; the value of the first.
    pub fn remove(&mut self, name: impl Key) -> Option<HeaderValue> {
        let mark = mark(name.text());
        if self.marks & bit(mark) == 0 {
            return None;
        }
        let mut first = None;
        self.list.retain_mut(|field| {
            let goes = field.is(mark, &name);
            if goes && first.is_none() {
                first = Some(std::mem::take(&mut field.value));
            }
            !goes
        });
        first
    }

    /// Keeps the fields of which that is true.
    pub fn retain(&mut self, keep: impl Fn(&HeaderName, &HeaderValue) -> bool) {
        self.list.retain(|field| keep(&field.name, &field.value));
    }

    /// Names, each as often as it stands.
    pub fn keys(&self) -> impl Iterator<Item = &HeaderName> {
        self.list.iter().map(|field| &field.name)
    }

    /// Values.
    pub fn values(&self) -> impl Iterator<Item = &HeaderValue> {
        self.list.iter().map(|field| &field.value)
    }

    /// Names and values.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.list.iter())
    }
}

/// See [`Fields::iter`].
pub struct Iter<'a>(slice::Iter<'a, Field>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a HeaderName, &'a HeaderValue);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|field| (&field.name, &field.value))
    }
}

/// See [`Fields::get_all`].
#[derive(Clone)]
pub struct GetAll<'a, K> {
    rest: slice::Iter<'a, Field>,
    mark: u8,
    name: K,
}

impl<'a, K: Key> Iterator for GetAll<'a, K> {
    type Item = &'a HeaderValue;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest.find(|field| field.is(self.mark, &self.name)).map(|field| &field.value)
    }
}

impl<K: Key> DoubleEndedIterator for GetAll<'_, K> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.rest.rfind(|field| field.is(self.mark, &self.name)).map(|field| &field.value)
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a HeaderName, &'a HeaderValue);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Fields {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = IntoIter;

    fn into_iter(mut self) -> Self::IntoIter {
        IntoIter(std::mem::take(&mut self.list).into_iter())
    }
}

/// Fields one by one.
pub struct IntoIter(vec::IntoIter<Field>);

impl Iterator for IntoIter {
    type Item = (HeaderName, HeaderValue);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|field| (field.name, field.value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: T) -> Self {
        let fields = fields.into_iter();
        let mut all = Self::with_capacity(fields.size_hint().0);
        fields.for_each(|(name, value)| all.append(name, value));
        all
    }
}

/// Fields that there is room for beside those that came in a map: a proxy adds its own.
const ROOM: usize = 12;

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        if map.is_empty() {
            return Self::new();
        }
        // The map gives no value's bytes away: all of them are copied into one buffer, which they share.
        let mut bytes = BytesMut::with_capacity(map.values().map(http::HeaderValue::len).sum());
        map.values().for_each(|value| bytes.extend_from_slice(value.as_bytes()));
        let mut bytes = bytes.freeze();
        let mut all = Self::with_capacity(map.len() + ROOM);
        for (name, value) in &map {
            all.append(name, HeaderValue::from_checked(bytes.split_to(value.len()), value.is_sensitive()));
        }
        all
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields {
            // A map holds some ten thousands of names; no head has as many.
            if map.try_append(name, value.into()).is_err() {
                break;
            }
        }
        map
    }
}

impl Extend<(HeaderName, HeaderValue)> for Fields {
    fn extend<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, fields: T) {
        fields.into_iter().for_each(|(name, value)| self.append(name, value));
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
impl<K: Key> std::ops::Index<K> for Fields {
    type Output = HeaderValue;

    fn index(&self, name: K) -> &HeaderValue {
        self.get(name).expect("a field of that name")
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A step on a set of fields.
    #[derive(Clone, Debug)]
    enum Step {
        Append(HeaderName, u8),
        Insert(HeaderName, u8),
        Remove(HeaderName),
    }

    fn name() -> impl Strategy<Value = HeaderName> {
        // Few, so that they meet; of one length and of several.
        prop::sample::select(vec![
            "host",
            "date",
            "etag",
            "x-a",
            "x-b",
            "x-forwarded-for",
            "cookie",
            "x-request-id",
            "accept",
        ])
        .prop_map(HeaderName::from_static)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (name(), any::<u8>()).prop_map(|(name, value)| Step::Append(name, value)),
            1 => (name(), any::<u8>()).prop_map(|(name, value)| Step::Insert(name, value)),
            1 => name().prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn fields_are_found_as_in_the_http_crates_map(steps in prop::collection::vec(step(), 0..60)) {
            let (mut ours, mut theirs) = (Fields::new(), HeaderMap::new());
            for step in steps {
                match step {
                    Step::Append(name, value) => {
                        ours.append(name.clone(), u64::from(value).into());
                        theirs.append(name, u64::from(value).into());
                    }
                    Step::Insert(name, value) => {
                        let before = ours.insert(name.clone(), u64::from(value).into());
                        let theirs = theirs.insert(name, u64::from(value).into());
                        prop_assert_eq!(before.map(http::HeaderValue::from), theirs);
                    }
                    Step::Remove(name) => {
                        prop_assert_eq!(ours.remove(&name).map(http::HeaderValue::from), theirs.remove(&name));
                    }
                }
                prop_assert_eq!(ours.len(), theirs.len());
                for name in theirs.keys() {
                    let theirs: Vec<_> = theirs.get_all(name).iter().map(|value| value.as_bytes()).collect();
                    let shouted = name.as_str().to_ascii_uppercase();
                    let ours = [ours.get_all(name).collect::<Vec<_>>(), ours.get_all(shouted.as_str()).collect()];
                    prop_assert!(ours.iter().all(|ours| ours.iter().map(|value| value.as_bytes()).eq(theirs.iter().copied())));
                }
            }
            prop_assert_eq!(HeaderMap::from(Fields::from(theirs.clone())), theirs.clone());
            prop_assert_eq!(HeaderMap::from(ours), theirs);
        }
    }

    #[test]
    fn fields_keep_the_order_in_which_they_came() {
        let mut fields = Fields::new();
        for name in ["b", "a", "b", "c", "b"] {
            fields.append(HeaderName::from_static(name), u64::try_from(fields.len()).unwrap().into());
        }

        fields.insert(HeaderName::from_static("b"), HeaderValue::from_static("new"));

        let all: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(all, [("b", "new"), ("a", "1"), ("c", "3")]);
    }
}
