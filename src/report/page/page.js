"use strict";
// Toggles of optimizers and metrics, and the values under the pointer or the arrow keys. The page is whole without it.
(function () {
  var data = JSON.parse(document.getElementById("curves").textContent);
  var shown = function (kind) {
    var boxes = document.querySelectorAll("input[data-kind=" + kind + "]");
    return new Set(Array.from(boxes).filter(function (box) { return box.checked; }).map(function (box) { return box.value; }));
  };
  var update = function () {
    var optimizers = shown("optimizer"), metrics = shown("metric");
    document.querySelectorAll("[data-optimizer]").forEach(function (part) {
      part.classList.toggle("off", !optimizers.has(part.dataset.optimizer));
    });
    document.querySelectorAll("figure[data-metric]").forEach(function (figure) {
      figure.hidden = !metrics.has(figure.dataset.metric);
    });
  };
  document.querySelectorAll("input[data-kind]").forEach(function (box) { box.addEventListener("change", update); });
  document.querySelectorAll("button[data-all]").forEach(function (button) {
    button.addEventListener("click", function () {
      document.querySelectorAll("input[data-kind=" + button.dataset.all + "]").forEach(function (box) { box.checked = true; });
      update();
    });
  });
  var digits = function (value) { return Number(value.toPrecision(4)).toString(); };
  document.querySelectorAll(".panel").forEach(function (panel) {
    var own = data[panel.dataset.panel], frame = own.frame, svg = panel.querySelector("svg");
    var output = panel.parentNode.querySelector("output"), at = null;
    var cursor = document.createElementNS(svg.namespaceURI, "line");
    cursor.setAttribute("stroke", "#000");
    cursor.setAttribute("stroke-dasharray", "2 2");
    cursor.setAttribute("y1", frame.y);
    cursor.setAttribute("y2", frame.y + frame.height);
    cursor.setAttribute("visibility", "hidden");
    svg.appendChild(cursor);
    var epochs = Array.from(new Set(own.lines.flatMap(function (line) { return line.points.map(function (p) { return p[0]; }); })));
    epochs.sort(function (a, b) { return a - b; });
    var show = function (place) {
      at = Math.max(0, Math.min(epochs.length - 1, place));
      var epoch = epochs[at], optimizers = shown("optimizer");
      var x = frame.x + frame.width * (epoch - frame.low) / (frame.high - frame.low);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.setAttribute("visibility", "visible");
      output.textContent = "";
      var head = document.createElement("b");
      head.textContent = "epoch " + epoch;
      output.appendChild(head);
      own.lines.forEach(function (line) {
        var point = line.points.find(function (p) { return p[0] === epoch; });
        if (!point || !optimizers.has(line.key)) { return; }
        var part = document.createElement("span");
        part.textContent = line.name + " " + digits(point[1]) + " [" + digits(point[2]) + ", " + digits(point[3]) + "]";
        output.appendChild(part);
        output.appendChild(document.createTextNode(" "));
      });
    };
    panel.addEventListener("pointermove", function (event) {
      var box = svg.getBoundingClientRect();
      var x = (event.clientX - box.left) * own.width / box.width;
      var epoch = frame.low + (frame.high - frame.low) * (x - frame.x) / frame.width;
      var nearest = 0;
      epochs.forEach(function (other, place) {
        if (Math.abs(other - epoch) < Math.abs(epochs[nearest] - epoch)) { nearest = place; }
      });
      show(nearest);
    });
    panel.addEventListener("keydown", function (event) {
      var start = at === null ? epochs.length - 1 : at;
      var places = { ArrowLeft: at === null ? start : start - 1, ArrowRight: at === null ? start : start + 1, Home: 0, End: epochs.length - 1 };
      if (!(event.key in places)) { return; }
      event.preventDefault();
      show(places[event.key]);
    });
  });
}());
