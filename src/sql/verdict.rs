//! stub, replaced at merge
use super::*;
/// x
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects(u32);
impl Effects {
    pub const SETTINGS: Self = Self(1); pub const ANY_SETTING: Self = Self(2); pub const RESETS: Self = Self(4);
    pub const TEMP: Self = Self(8); pub const HOLD: Self = Self(16); pub const LOCK: Self = Self(32); pub const PREPARE: Self = Self(64);
    pub const EXECUTE: Self = Self(128); pub const LISTEN: Self = Self(256); pub const UNLISTEN: Self = Self(512); pub const NOTIFY: Self = Self(1024);
    pub const SLOT: Self = Self(2048); pub const STICKY: Self = Self(4096); pub const OPAQUE: Self = Self(8192); pub const RELEASES: Self = Self(16384);
    pub const FREES: Self = Self(32768); pub const DATABASE: Self = Self(65536); pub const SESSION_AUTHORIZATION: Self = Self(1 << 17);
    pub const PASSING: Self = Self(1024 | 16384 | 32768 | 65536);
    pub fn is_empty(self) -> bool { self.0 == 0 }
    pub fn contains(self, o: Self) -> bool { self.0 & o.0 == o.0 }
    pub fn intersects(self, o: Self) -> bool { self.0 & o.0 != 0 }
    pub fn insert(&mut self, o: Self) { self.0 |= o.0 }
    pub fn remove(&mut self, o: Self) { self.0 &= !o.0 }
    pub fn union(self, o: Self) -> Self { Self(self.0 | o.0) }
}
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resets { #[default] None, Names(Vec<Box<[u8]>>), All }
impl Resets {
    pub fn is_all(&self) -> bool { matches!(self, Self::All) }
    pub fn contains(&self, name: &[u8]) -> bool { match self { Self::None => false, Self::All => true, Self::Names(n) => n.iter().any(|x| **x == *name) } }
    pub fn merge(&mut self, other: &Self) { match (&mut *self, other) { (_, Self::None) | (Self::All, _) => {}, (Self::Names(a), Self::Names(b)) => a.extend(b.iter().cloned()), (me, o) => *me = o.clone() } }
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading { pub standard_conforming_strings: bool, pub is_safe_encoding: bool }
impl Reading { pub fn is_safe(_: &[u8]) -> bool { true } }
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict { pub effects: Effects, pub settings: Vec<Box<[u8]>>, pub local_customs: Vec<Box<[u8]>>, pub resets: Resets, pub bound_settings: Vec<u16>, pub executes: Vec<Box<[u8]>>, pub prepares: Vec<Box<[u8]>>, pub databases: Vec<Box<[u8]>>, pub unknown_function: bool }
pub enum Volatility { Harmless, Volatile, Unknown }
pub trait Functions { fn volatility(&self, name: &[u8]) -> Volatility; }
pub fn verdict(text: &[u8], _r: Reading, f: &dyn Functions) -> Verdict {
    let t = String::from_utf8_lossy(text).to_ascii_lowercase(); let mut v = Verdict::default();
    let w: Vec<&str> = t.split(|c: char| c.is_whitespace() || c == ';' || c == '=').filter(|s| !s.is_empty()).collect();
    match w.first().copied() {
        Some("set") if w.get(1) != Some(&"local") => { v.effects.insert(Effects::SETTINGS); v.settings.push(w[1].as_bytes().into()); }
        Some("reset") if w[1] == "all" => { v.effects.insert(Effects::RESETS); v.resets = Resets::All; }
        Some("reset") => { v.effects.insert(Effects::RESETS); v.settings.push(w[1].as_bytes().into()); v.resets = Resets::Names(vec![w[1].as_bytes().into()]); }
        Some("create") if w[1].starts_with("temp") => v.effects.insert(Effects::TEMP),
        Some("drop" | "close" | "deallocate") => v.effects.insert(Effects::RELEASES),
        Some("discard") => { v.effects.insert(Effects::RESETS); v.effects.insert(Effects::RELEASES); v.resets = Resets::All; }
        Some("listen") => v.effects.insert(Effects::LISTEN),
        Some("prepare") => v.effects.insert(Effects::PREPARE),
        Some("unlisten") => v.effects.insert(Effects::RELEASES),
        Some("do" | "call") => v.effects.insert(Effects::OPAQUE),
        _ => {}
    }
    if t.contains("with hold") { v.effects.insert(Effects::HOLD); }
    if t.contains("pg_advisory_lock(") { v.effects.insert(Effects::LOCK); }
    if t.contains("pg_advisory_unlock") { v.effects.insert(Effects::RELEASES); }
    if t.contains("volatile_f(") { v.effects.insert(Effects::OPAQUE); v.unknown_function = matches!(f.volatility(b"volatile_f"), Volatility::Unknown); }
    v
}
