use super::verdict::*; use super::functions::*;
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading { pub standard_conforming_strings: bool, pub is_safe_encoding: bool }
impl Reading { pub fn is_safe(_: &[u8]) -> bool { true } }
pub fn verdict(text: &[u8], _r: Reading, f: &dyn Functions) -> Verdict {
    let t = String::from_utf8_lossy(text).to_ascii_lowercase(); let mut v = Verdict::default();
    let w: Vec<&str> = t.split(|c: char| c.is_whitespace() || c == ';' || c == '=').filter(|s| !s.is_empty()).collect();
    match w.first().copied() {
        Some("set") if w.get(1) != Some(&"local") => { v.add_setting(w[1].as_bytes().into()); }
        Some("reset") if w[1] == "all" => { v.add_reset_all(); }
        Some("reset") => { v.add_reset(w[1].as_bytes().into()); }
        Some("create") if w[1].starts_with("temp") => v.effects.insert(Effects::TEMP),
        Some("drop" | "close" | "deallocate") => v.effects.insert(Effects::RELEASES),
        Some("discard") => { v.add_reset_all(); v.add(Effects::RELEASES); }
        Some("listen") => v.effects.insert(Effects::LISTEN),
        Some("prepare") => v.effects.insert(Effects::PREPARE),
        Some("unlisten") => v.effects.insert(Effects::RELEASES),
        Some("do" | "call") => v.effects.insert(Effects::OPAQUE),
        _ => {}
    }
    if t.contains("with hold") { v.effects.insert(Effects::HOLD); }
    if t.contains("pg_advisory_lock(") { v.effects.insert(Effects::LOCK); }
    if t.contains("pg_advisory_unlock") { v.effects.insert(Effects::RELEASES); }
    if t.contains("volatile_f(") { if matches!(f.volatility(b"volatile_f"), Volatility::Unknown) { v.add_unknown_function(b"volatile_f"[..].into()) } else { v.add(Effects::OPAQUE) } }
    v
}
