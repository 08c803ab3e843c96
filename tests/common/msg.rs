//! Messages that a client sends, as bytes ("Message Formats" in PostgreSQL's manual).

/// Protocol 3.0.
pub const PROTOCOL_3_0: u32 = 0x0003_0000;
/// Protocol 3.2 (PostgreSQL 18).
pub const PROTOCOL_3_2: u32 = 0x0003_0002;
/// The version that libpq sends to see whether a server negotiates ("grease").
pub const PROTOCOL_GREASE: u32 = 0x0003_270F;

fn len(body: usize) -> [u8; 4] {
    u32::try_from(body + 4)
        .expect("messages have less than 4 GB")
        .to_be_bytes()
}

fn cstr(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Any message with a kind.
pub fn typed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(len(body.len()));
    bytes.extend(body);
    bytes
}

/// Any message without a kind: those before the login.
pub fn untyped(body: &[u8]) -> Vec<u8> {
    let mut bytes = len(body.len()).to_vec();
    bytes.extend(body);
    bytes
}

/// A startup message of any version.
pub fn startup_version(version: u32, params: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in params {
        body.extend(cstr(name));
        body.extend(cstr(value));
    }
    body.push(0);
    untyped(&body)
}

/// A startup message of protocol 3.0.
pub fn startup(params: &[(&str, &str)]) -> Vec<u8> {
    startup_version(PROTOCOL_3_0, params)
}

/// `SSLRequest`.
pub fn ssl_request() -> Vec<u8> {
    untyped(&80_877_103_u32.to_be_bytes())
}

/// `GSSENCRequest`.
pub fn gssenc_request() -> Vec<u8> {
    untyped(&80_877_104_u32.to_be_bytes())
}

/// `CancelRequest`.
pub fn cancel(pid: u32, key: &[u8]) -> Vec<u8> {
    let mut body = 80_877_102_u32.to_be_bytes().to_vec();
    body.extend(pid.to_be_bytes());
    body.extend(key);
    untyped(&body)
}

/// `PasswordMessage`, `SASLResponse` and their like.
pub fn password(body: &[u8]) -> Vec<u8> {
    typed(b'p', body)
}

/// `Query`.
pub fn query(sql: &str) -> Vec<u8> {
    typed(b'Q', &cstr(sql))
}

/// `Parse` without parameter types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    parse_types(name, sql, &[])
}

/// `Parse` with parameter types by OID.
pub fn parse_types(name: &str, sql: &str, oids: &[u32]) -> Vec<u8> {
    let mut body = cstr(name);
    body.extend(cstr(sql));
    body.extend(u16::try_from(oids.len()).expect("few types").to_be_bytes());
    for oid in oids {
        body.extend(oid.to_be_bytes());
    }
    typed(b'P', &body)
}

/// `Bind` with parameters as text and results as text.
pub fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let mut body = cstr(portal);
    body.extend(cstr(statement));
    body.extend([0, 0]);
    body.extend(u16::try_from(values.len()).expect("few values").to_be_bytes());
    for value in values {
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(text) => {
                body.extend(u32::try_from(text.len()).expect("less than 4 GB").to_be_bytes());
                body.extend(text.as_bytes());
            }
        }
    }
    body.extend([0, 0]);
    typed(b'B', &body)
}

/// `Bind` with one binary parameter and binary results.
pub fn bind_binary(portal: &str, statement: &str, value: &[u8]) -> Vec<u8> {
    let mut body = cstr(portal);
    body.extend(cstr(statement));
    body.extend([0, 1, 0, 1, 0, 1]);
    body.extend(u32::try_from(value.len()).expect("less than 4 GB").to_be_bytes());
    body.extend(value);
    body.extend([0, 1, 0, 1]);
    typed(b'B', &body)
}

fn named(kind: u8, what: u8, name: &str) -> Vec<u8> {
    let mut body = vec![what];
    body.extend(cstr(name));
    typed(kind, &body)
}

/// `Describe` of a statement.
pub fn describe_statement(name: &str) -> Vec<u8> {
    named(b'D', b'S', name)
}

/// `Describe` of a portal.
pub fn describe_portal(name: &str) -> Vec<u8> {
    named(b'D', b'P', name)
}

/// `Close` of a statement.
pub fn close_statement(name: &str) -> Vec<u8> {
    named(b'C', b'S', name)
}

/// `Close` of a portal.
pub fn close_portal(name: &str) -> Vec<u8> {
    named(b'C', b'P', name)
}

/// `Execute`; zero rows means all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = cstr(portal);
    body.extend(rows.to_be_bytes());
    typed(b'E', &body)
}

/// `Sync`.
pub fn sync() -> Vec<u8> {
    typed(b'S', &[])
}

/// `Flush`.
pub fn flush() -> Vec<u8> {
    typed(b'H', &[])
}

/// `Terminate`.
pub fn terminate() -> Vec<u8> {
    typed(b'X', &[])
}

/// `CopyData`.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    typed(b'd', data)
}

/// `CopyDone`.
pub fn copy_done() -> Vec<u8> {
    typed(b'c', &[])
}

/// `CopyFail`.
pub fn copy_fail(reason: &str) -> Vec<u8> {
    typed(b'f', &cstr(reason))
}

/// `FunctionCall` with arguments and result as text.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.extend(
        u16::try_from(arguments.len())
            .expect("few arguments")
            .to_be_bytes(),
    );
    for argument in arguments {
        body.extend(
            u32::try_from(argument.len())
                .expect("less than 4 GB")
                .to_be_bytes(),
        );
        body.extend(argument.as_bytes());
    }
    body.extend([0, 0]);
    typed(b'F', &body)
}

/// Parse, Bind, Describe and Execute of the unnamed statement: what most drivers send for a query, less the Sync.
pub fn extended(sql: &str, values: &[Option<&str>]) -> Vec<u8> {
    [
        parse("", sql),
        bind("", "", values),
        describe_portal(""),
        execute("", 0),
    ]
    .concat()
}

/// Bind, Describe and Execute of a named statement.
pub fn run(statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    [bind("", statement, values), describe_portal(""), execute("", 0)].concat()
}
