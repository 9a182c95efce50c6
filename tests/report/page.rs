//! The page of a study in a real browser: no complaint, toggles, values under the pointer, all of it by keyboard too.
//!
//! The browser is a headless Chromium, spoken to in the DevTools protocol over a pair of pipes: no port, no other crate.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use backpack_run::report::{Options, report};
use serde_json::{Value, json};

/// Chromium with one page.
struct Browser {
    process: Child,
    input: std::fs::File,
    output: BufReader<std::fs::File>,
    number: u64,
    session: String,
    /// What the page wrote to its console as a warning or an error, and exceptions that nobody caught.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors, which are owned by nothing else.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

impl Browser {
    /// Starts it and opens `address`; None where there is no Chromium.
    fn open(address: &str) -> Option<Browser> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let path = std::env::var_os("PATH")?;
        let program =
            names.iter().flat_map(|n| std::env::split_paths(&path).map(move |p| p.join(n))).find(|p| p.is_file())?;
        let profile = tempfile::tempdir().unwrap();
        let ((read_commands, write_commands), (read_answers, write_answers)) = (pipe(), pipe());
        let (commands, answers) = (read_commands.as_raw_fd(), write_answers.as_raw_fd());
        let mut command = Command::new(program);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--remote-debugging-pipe", "--window-size=1100,1400", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: only calls that are allowed between fork and exec. The copies above 3 and 4 keep one of the two from
        // being overwritten before it is taken.
        unsafe {
            command.pre_exec(move || {
                let (from, to) = (libc::fcntl(commands, libc::F_DUPFD, 10), libc::fcntl(answers, libc::F_DUPFD, 10));
                libc::dup2(from, 3);
                libc::dup2(to, 4);
                Ok(())
            });
        }
        let process = command.spawn().expect("Chromium starts");
        drop((read_commands, write_answers));
        let (input, output) = (write_commands.into(), BufReader::new(read_answers.into()));
        let (number, session, complaints) = (0, String::new(), Vec::new());
        let mut browser = Browser { process, input, output, number, session, complaints, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Runtime", "Log", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Page.navigate", json!({ "url": address }));
        while browser.evaluate("document.readyState") != "complete" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(browser)
    }

    /// One command of the protocol and its result.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).expect("Chromium listens");
        loop {
            let mut bytes = Vec::new();
            self.output.read_until(0, &mut bytes).expect("Chromium answers");
            let text = bytes.strip_suffix(&[0]).expect("Chromium is still there");
            let answer: Value = serde_json::from_slice(text).unwrap();
            let event = answer["method"].as_str().unwrap_or_default();
            let kind =
                answer["params"]["type"].as_str().or(answer["params"]["entry"]["level"].as_str()).unwrap_or_default();
            if event == "Runtime.exceptionThrown" || matches!(kind, "error" | "warning" | "assert") {
                self.complaints.push(answer["params"].to_string());
            }
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression in the page.
    fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// The middle of what a selector finds, after scrolling there.
    fn middle(&mut self, selector: &str) -> (f64, f64) {
        let found = self.evaluate(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}}); \
             const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; }})()"
        ));
        (found[0].as_f64().unwrap(), found[1].as_f64().unwrap())
    }

    /// Makes the window so many pixels wide and high.
    fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Moves the mouse.
    fn move_to(&mut self, (x, y): (f64, f64)) {
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": x, "y": y }));
    }

    /// Presses and releases the left button in the middle of what a selector finds.
    fn click(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses and releases a key by its name, for example ArrowLeft or Tab; `text` is what it types.
    fn press(&mut self, key: &str, code: u32, text: &str) {
        let mut event = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if !text.is_empty() {
            event["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", event.clone());
        event["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", event);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helper processes end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_page_works_in_a_browser() {
    let root = crate::support::temporary_folder();
    let folder = crate::report_support::write_study(root.path());
    report(&folder, &Options::default()).unwrap();
    let Some(mut page) = Browser::open(&format!("file://{}", folder.join("index.html").display())) else {
        crate::support::skip!("the_page_works_in_a_browser", "there is no Chromium");
    };
    let seen = "Array.from(document.querySelectorAll('figure[data-metric] .series[data-optimizer=KFAC]'))\
                .filter(e => getComputedStyle(e).display !== 'none').length";
    let all = page.evaluate(seen);
    assert_eq!(all, 24); // four metrics over epochs and seconds: band, line and name
    page.click("input[value=KFAC]");
    assert_eq!(page.evaluate(seen), 0);
    assert_eq!(page.evaluate("document.querySelectorAll('figure .series[data-optimizer=Adam].off').length"), 0);
    // The keyboard does the same: the box that was clicked has the focus.
    page.press(" ", 32, " ");
    assert_eq!(page.evaluate(seen), all);
    let figures = "Array.from(document.querySelectorAll('figure[data-metric]')).filter(e => e.offsetParent).length";
    page.click("input[value=test_losses]");
    assert_eq!(page.evaluate(figures), 6);
    page.click("button[data-all=metric]");
    assert_eq!(page.evaluate(figures), 8);

    // The middle of the frame is epoch 2 of 4, where KFAC's median test accuracy is .1 + .82 / 2.
    let middle = page.middle("figure[data-metric=test_accuracies] svg > rect[stroke]");
    page.move_to(middle);
    let output = "document.querySelector('figure[data-metric=test_accuracies] output').textContent";
    let text = page.evaluate(output).as_str().unwrap().to_owned();
    assert!(text.starts_with("epoch 2") && text.contains("KFAC 0.51 ["), "{text}");
    // Tab goes from the last button to the first panel; there the arrow keys go through the epochs.
    page.evaluate("document.querySelector('button[data-all=metric]').focus()");
    page.press("Tab", 9, "");
    assert_eq!(page.evaluate("document.activeElement.dataset.panel"), "p-test_losses-epochs");
    page.press("End", 35, "");
    page.press("ArrowLeft", 37, "");
    let output = "document.querySelector('figure[data-metric=test_losses] output b').textContent";
    assert_eq!(page.evaluate(output), "epoch 3");
    // Over seconds: what each has come to by then. KFAC's seeds take 2, 3 and 4 seconds an epoch.
    page.evaluate("document.querySelector('[data-panel=p-test_accuracies-seconds]').focus()");
    page.press("Home", 36, "");
    page.press("ArrowRight", 39, "");
    let output = "document.querySelector('[data-panel=p-test_accuracies-seconds] + output').textContent";
    let text = page.evaluate(output).as_str().unwrap().to_owned();
    assert!(text.starts_with("3 s") && text.contains("KFAC 0.305 ["), "{text}");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}

/// The page is as wide as its window, a phone's and a desk's, however many optimizers and problems there are.
#[test]
fn no_page_scrolls_sideways() {
    let root = crate::support::temporary_folder();
    let folder = crate::report_support::write_study(root.path());
    crate::report_support::add_study(&folder, "fmnist_mlp", |value| value - 0.1);
    report(&folder, &Options::default()).unwrap();
    let Some(mut page) = Browser::open(&format!("file://{}", folder.join("index.html").display())) else {
        crate::support::skip!("no_page_scrolls_sideways", "there is no Chromium");
    };
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)");
    let width = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    for columns in [360, 390, 768, 1280] {
        page.resize(columns, 800);
        assert_eq!(page.evaluate("document.documentElement.clientWidth"), columns);
        assert_eq!(page.evaluate(width), 0, "at {columns}");
    }
}

#[test]
fn no_name_gets_out_of_its_place_on_the_page() {
    for names in crate::report_support::HOSTILE.chunks(3) {
        let root = crate::support::temporary_folder();
        let named = |optimizer: &str| {
            let place = crate::report_support::ACCURACIES.iter().position(|(known, _)| *known == optimizer).unwrap();
            names[place].to_owned()
        };
        let folder = crate::report_support::write_study_of(root.path(), names[0], named);
        report(&folder, &Options::default()).unwrap();
        let Some(mut page) = Browser::open(&format!("file://{}", folder.join("index.html").display())) else {
            crate::support::skip!("no_name_gets_out_of_its_place_on_the_page", "there is no Chromium");
        };
        let mut is = |expression: &str, value: serde_json::Value| {
            assert_eq!(page.evaluate(expression), value, "{names:?}: {expression}");
        };
        is("document.title", "small: study".into());
        is("document.scripts.length", 2.into());
        is("document.querySelectorAll('img, b:not(output b), main script, [onmouseover], [onerror]').length", 0.into());
        is("document.documentElement.scrollWidth <= document.documentElement.clientWidth", true.into());
        // What is seen of a name: itself, but for what is not to be seen.
        let seen = "Array.from(document.querySelectorAll('input[data-kind=optimizer]')).map(e => e.parentNode.lastChild.textContent.trim())";
        let shown: Vec<String> = serde_json::from_value(page.evaluate(seen)).unwrap();
        assert_eq!(shown.len(), 3);
        for (shown, name) in shown.iter().zip(names) {
            assert!(!shown.contains(is_hidden), "{shown:?}");
            let plain = !name.contains(is_hidden);
            assert_eq!(plain, shown == name, "{shown:?} {name:?}");
        }
        // Each box hides the lines and bands of its optimizer, in the eight panels, and of no other.
        let drawn = "Array.from(document.querySelectorAll('figure[data-metric] .series > polyline')).filter(e => getComputedStyle(e.parentNode).display !== 'none').length";
        for place in 0..3 {
            let click = format!("document.querySelectorAll('input[data-kind=optimizer]')[{place}].click()");
            page.evaluate(&click);
            assert_eq!(page.evaluate(drawn), 16, "{names:?} {place}");
            page.evaluate(&click);
            assert_eq!(page.evaluate(drawn), 24, "{names:?} {place}");
        }
        page.evaluate("document.querySelector('.panel').focus()");
        page.press("End", 35, "");
        let told = "Array.from(document.querySelectorAll('output span')).map(e => e.textContent)";
        let told: Vec<String> = serde_json::from_value(page.evaluate(told)).unwrap();
        assert!(told.len() == 3 && told.iter().zip(&shown).all(|(told, name)| told.starts_with(name)), "{told:?}");
        assert!(page.complaints.is_empty(), "{names:?}: {:?}", page.complaints);
    }
}

/// What a page should not have in a name.
fn is_hidden(letter: char) -> bool {
    letter.is_control() || "\u{202c}\u{202e}\u{2066}\u{2069}\u{fdd0}\u{feff}\u{fffe}\u{ffff}".contains(letter)
}
