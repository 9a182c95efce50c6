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
    cursor.setAttribute("stroke", "#999");
    cursor.setAttribute("stroke-dasharray", "2 2");
    cursor.setAttribute("y1", frame.y);
    cursor.setAttribute("y2", frame.y + frame.height);
    cursor.setAttribute("visibility", "hidden");
    svg.appendChild(cursor);
    var places = Array.from(new Set(own.lines.flatMap(function (line) { return line.points.map(function (p) { return p[0]; }); })));
    places.sort(function (a, b) { return a - b; });
    var map = function (value) { return frame.log ? Math.log(value) : value; };
    var share = function (value) { return (map(value) - map(frame.low)) / (map(frame.high) - map(frame.low)); };
    // The last point that a line has come to.
    var reached = function (line, x) {
      if (own.over === "epochs") { return line.points.find(function (p) { return p[0] === x; }); }
      return line.points.filter(function (p) { return p[0] <= x; }).pop();
    };
    var show = function (place) {
      at = Math.max(0, Math.min(places.length - 1, place));
      var value = places[at], optimizers = shown("optimizer");
      var x = frame.x + frame.width * share(value);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.setAttribute("visibility", "visible");
      output.textContent = "";
      var head = document.createElement("b");
      head.textContent = own.over === "epochs" ? "epoch " + value : digits(value) + " s";
      output.appendChild(head);
      own.lines.forEach(function (line) {
        var point = reached(line, value);
        if (!point || !optimizers.has(line.key)) { return; }
        var part = document.createElement("span");
        part.textContent = line.name + " " + digits(point[1]) + " [" + digits(point[2]) + ", " + digits(point[3]) + "]";
        output.appendChild(part);
        output.appendChild(document.createTextNode(" "));
      });
    };
    panel.addEventListener("pointermove", function (event) {
      var box = svg.getBoundingClientRect();
      var wanted = ((event.clientX - box.left) * own.width / box.width - frame.x) / frame.width;
      var nearest = 0;
      places.forEach(function (other, place) {
        if (Math.abs(share(other) - wanted) < Math.abs(share(places[nearest]) - wanted)) { nearest = place; }
      });
      show(nearest);
    });
    panel.addEventListener("keydown", function (event) {
      var start = at === null ? places.length - 1 : at;
      var moves = { ArrowLeft: at === null ? start : start - 1, ArrowRight: at === null ? start : start + 1, Home: 0, End: places.length - 1 };
      if (!(event.key in moves)) { return; }
      event.preventDefault();
      show(moves[event.key]);
    });
  });
}());
