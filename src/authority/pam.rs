//! Pluggable Authentication Modules: whether the system accepts a password.
//!
//! `libpam` is loaded when it is first needed, so that howdah is built without its headers and runs where it is not.
//! This is the one place with code that the compiler cannot check, because `libpam` is C and calls back. It is small, and
//! each block says why it is sound.
#![allow(unsafe_code, reason = "libpam is a C library that calls back")]

use std::ffi::{CStr, CString, NulError, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use libloading::Library;
use nix::libc;
use zeroize::Zeroize;

use super::{Doubt, PamQuestion};

/// Linux-PAM. Others go by other names, for they have other numbers than those below.
const LIBRARY: &str = "libpam.so.0";

/// The longest delay that a module gets, after a wrong password.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Messages of one conversation; the library's own limit.
const MESSAGES_MAX: c_int = 32;

// Linux-PAM's numbers.
const SUCCESS: c_int = 0;
const BUFFER_ERROR: c_int = 5;
const PERMISSION_DENIED: c_int = 6;
const AUTHENTICATION_ERROR: c_int = 7;
const USER_UNKNOWN: c_int = 10;
const TRIES_EXHAUSTED: c_int = 11;
const NEW_PASSWORD_REQUIRED: c_int = 12;
const ACCOUNT_EXPIRED: c_int = 13;
const CONVERSATION_ERROR: c_int = 19;
const PROMPT_ECHO_OFF: c_int = 1;
const ERROR_MESSAGE: c_int = 3;
const TEXT_INFO: c_int = 4;
const ITEM_HOST: c_int = 4;
const ITEM_FAIL_DELAY: c_int = 10;
const SILENT: c_int = 0x8000;

/// A `pam_handle_t`, of which only the library knows what is in it.
#[repr(C)]
struct Handle {
    _opaque: [u8; 0],
}

/// `struct pam_message`
#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

/// `struct pam_response`
#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

type Talk = unsafe extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int;

/// `struct pam_conv`
#[repr(C)]
struct Conversation {
    talk: Talk,
    data: *mut c_void,
}

/// What the library hands to the functions that it calls back.
struct Partner {
    password: CString,
    delay: Duration,
}

/// The functions of the library that are used.
struct Pam {
    start: unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut *mut Handle) -> c_int,
    set_item: unsafe extern "C" fn(*mut Handle, c_int, *const c_void) -> c_int,
    authenticate: unsafe extern "C" fn(*mut Handle, c_int) -> c_int,
    check_account: unsafe extern "C" fn(*mut Handle, c_int) -> c_int,
    describe: unsafe extern "C" fn(*mut Handle, c_int) -> *const c_char,
    end: unsafe extern "C" fn(*mut Handle, c_int) -> c_int,
    /// Keeps them where they are.
    _library: Library,
}

/// What came of a question.
pub(super) struct Answer {
    pub(super) verdict: Result<(), Doubt>,
    /// How long a module wants the one who asked to wait for it.
    pub(super) delay: Duration,
}

/// Asks whether a password is right and the account is good. Blocks for as long as modules want.
pub(super) fn ask(question: &PamQuestion) -> Answer {
    static PAM: OnceLock<Result<Pam, String>> = OnceLock::new();
    let asked = match PAM.get_or_init(Pam::load) {
        Ok(pam) => pam.ask(question),
        Err(error) => Err(Doubt::NoAnswer(format!("PAM cannot be had: {error}"))),
    };
    asked.unwrap_or_else(|doubt| Answer {
        verdict: Err(doubt),
        delay: Duration::ZERO,
    })
}

impl Pam {
    fn load() -> Result<Self, String> {
        let missing = |error: libloading::Error| error.to_string();
        // SAFETY: the initialisers of libpam have no conditions, and the types are those of its manual pages. The
        // functions are used only while the library is loaded, which is for ever.
        unsafe {
            let library = Library::new(LIBRARY).map_err(missing)?;
            Ok(Self {
                start: *library.get(c"pam_start").map_err(missing)?,
                set_item: *library.get(c"pam_set_item").map_err(missing)?,
                authenticate: *library.get(c"pam_authenticate").map_err(missing)?,
                check_account: *library.get(c"pam_acct_mgmt").map_err(missing)?,
                describe: *library.get(c"pam_strerror").map_err(missing)?,
                end: *library.get(c"pam_end").map_err(missing)?,
                _library: library,
            })
        }
    }

    fn ask(&self, question: &PamQuestion) -> Result<Answer, Doubt> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(with_nul);
        let service = text(question.service.as_bytes())?;
        let user = text(question.user.as_bytes())?;
        let host = question
            .host
            .as_ref()
            .map(|host| text(host.as_bytes()))
            .transpose()?;
        let mut partner = Partner {
            password: text(question.password.reveal())?,
            delay: Duration::ZERO,
        };
        let conversation = Conversation {
            talk,
            data: ptr::from_mut(&mut partner).cast(),
        };
        let mut handle = ptr::null_mut();
        // SAFETY: all pointers live until `end`, which is the last call with the handle. The library copies the texts
        // and the conversation, and calls back only within `authenticate` and `check_account`, on this thread, while
        // `partner` is borrowed by nobody else.
        let (status, reason) = unsafe {
            let mut status = (self.start)(
                service.as_ptr(),
                user.as_ptr(),
                &raw const conversation,
                &raw mut handle,
            );
            if status == SUCCESS {
                (self.set_item)(handle, ITEM_FAIL_DELAY, delayed as *const c_void);
            }
            if let (SUCCESS, Some(host)) = (status, &host) {
                status = (self.set_item)(handle, ITEM_HOST, host.as_ptr().cast());
            }
            if status == SUCCESS {
                status = (self.authenticate)(handle, SILENT);
            }
            if status == SUCCESS {
                status = (self.check_account)(handle, SILENT);
            }
            let reason = (self.describe)(handle, status);
            let reason = if reason.is_null() {
                String::new()
            } else {
                CStr::from_ptr(reason).to_string_lossy().into_owned()
            };
            if !handle.is_null() {
                (self.end)(handle, status);
            }
            (status, reason)
        };
        Ok(Answer {
            verdict: verdict(status, &reason),
            delay: partner.delay.min(DELAY_MAX),
        })
    }
}

fn with_nul(_: NulError) -> Doubt {
    Doubt::Refused("a zero byte is in what PAM shall be asked".to_owned())
}

fn verdict(status: c_int, reason: &str) -> Result<(), Doubt> {
    match status {
        SUCCESS => Ok(()),
        PERMISSION_DENIED
        | AUTHENTICATION_ERROR
        | USER_UNKNOWN
        | TRIES_EXHAUSTED
        | NEW_PASSWORD_REQUIRED
        | ACCOUNT_EXPIRED => Err(Doubt::Refused(format!("PAM: {reason}"))),
        other => Err(Doubt::NoAnswer(format!("PAM: {reason} (status {other})"))),
    }
}

/// Called back instead of a delay after a failure, which would keep a thread busy; the one who asks is delayed instead.
unsafe extern "C" fn delayed(status: c_int, microseconds: c_uint, data: *mut c_void) {
    // SAFETY: the data is that of the conversation, a `Partner` that nobody else uses during the call.
    if let Some(partner) = unsafe { data.cast::<Partner>().as_mut() }.filter(|_| status != SUCCESS) {
        partner.delay = Duration::from_micros(microseconds.into());
    }
}

/// Called back for what modules have to say and to ask.
unsafe extern "C" fn talk(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let Some(len) = usize::try_from(count)
        .ok()
        .filter(|_| (1..=MESSAGES_MAX).contains(&count))
    else {
        return CONVERSATION_ERROR;
    };
    // SAFETY: the library passes `count` pointers to messages, room for one pointer to the answers, and the data of the
    // conversation, a `Partner`. Answers are allocated by malloc's family, because it is the library that frees them.
    unsafe {
        let Some(partner) = data.cast::<Partner>().as_ref() else {
            return CONVERSATION_ERROR;
        };
        let answers = libc::calloc(len, size_of::<Response>()).cast::<Response>();
        if answers.is_null() {
            return BUFFER_ERROR;
        }
        for index in 0..len {
            let message = &**messages.add(index);
            let answer = match message.style {
                PROMPT_ECHO_OFF => libc::strdup(partner.password.as_ptr()),
                ERROR_MESSAGE | TEXT_INFO => continue,
                // Nobody is there to be asked for anything else.
                _ => ptr::null_mut(),
            };
            if answer.is_null() {
                forget(answers, len);
                return CONVERSATION_ERROR;
            }
            (*answers.add(index)).text = answer;
        }
        *responses = answers;
    }
    SUCCESS
}

/// Frees answers that nobody gets.
///
/// # Safety
///
/// They are `len` answers as [`talk`] has made them, and nobody uses them afterwards.
unsafe fn forget(answers: *mut Response, len: usize) {
    // SAFETY: each text comes from strdup or is null, the array from calloc.
    unsafe {
        for index in 0..len {
            libc::free((*answers.add(index)).text.cast());
        }
        libc::free(answers.cast());
    }
}

impl Drop for Partner {
    /// Leaves no password in memory that is free to be used by others.
    fn drop(&mut self) {
        std::mem::take(&mut self.password).into_bytes().zeroize();
    }
}
