//! The page of a study in a real browser: no complaint, toggles, values under the pointer, all of it by keyboard too.

use crate::browser::Browser;
use backpack_run::report::{Options, report};

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
