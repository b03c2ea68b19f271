(function () {
  "use strict";

  // A colour that starts with "--" is the name of a CSS variable, looked up in the current scheme.
  function resolved(data, style) {
    if (Array.isArray(data)) return data.map(function (item) { return resolved(item, style); });
    if (data && typeof data === "object") {
      var copy = {};
      Object.keys(data).forEach(function (key) {
        var value = data[key];
        copy[key] = key === "color" && typeof value === "string" && value.indexOf("--") === 0
          ? style.getPropertyValue(value).trim() : resolved(value, style);
      });
      return copy;
    }
    return data;
  }

  function axis(own, style) {
    var line = style.getPropertyValue("--line").trim();
    var result = Object.assign({ gridcolor: style.getPropertyValue("--grid").trim(), zerolinecolor: line, linecolor: line }, own);
    result.title = Object.assign({ font: { size: 12 }, standoff: 8 }, own.title);
    return result;
  }

  function draw() {
    if (typeof Plotly === "undefined") return;
    var style = getComputedStyle(document.documentElement);
    var figures = JSON.parse(document.getElementById("figures").textContent);
    Object.keys(figures).forEach(function (id) {
      var figure = resolved(figures[id], style);
      var narrow = window.innerWidth < 600;
      var layout = Object.assign({
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, dragmode: false,
        margin: { l: 8, r: 12, t: 40, b: 8 },
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemsizing: "constant", font: { size: 12 } }
      }, figure.layout);
      layout.font = {
        family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12,
        color: style.getPropertyValue("--text").trim()
      };
      layout.hoverlabel = {
        bgcolor: style.getPropertyValue("--panel").trim(), bordercolor: style.getPropertyValue("--muted").trim(),
        font: { color: layout.font.color }
      };
      layout.xaxis = axis(figure.layout.xaxis, style);
      layout.yaxis = axis(figure.layout.yaxis, style);
      if (narrow && layout.yaxis.autorange === "reversed") {
        layout.yaxis.title = { text: "" };
        layout.yaxis.tickfont = { size: 10 };
        layout.xaxis.range = [0, layout.xaxis.range[1] * 1.3];
      }
      Plotly.react(id, figure.data, layout, { responsive: true, displayModeBar: false });
    });
  }

  function key(row, column) {
    var cell = row.cells[column];
    return cell.dataset.sort === undefined ? cell.textContent.toLowerCase() : Number(cell.dataset.sort);
  }

  function sortBy(table, column, header) {
    var up = header.getAttribute("aria-sort") !== "ascending";
    Array.prototype.forEach.call(header.parentNode.cells, function (cell) { cell.removeAttribute("aria-sort"); });
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    var rows = Array.prototype.slice.call(table.tBodies[0].rows).map(function (row, place) {
      return { row: row, key: key(row, column), place: place };
    });
    rows.sort(function (a, b) {
      // What was not measured stays at the end in both directions.
      var unknown = (a.key !== a.key) - (b.key !== b.key);
      if (unknown) return unknown;
      var order = a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
      return (up ? order : -order) || a.place - b.place;
    });
    rows.forEach(function (item) { table.tBodies[0].appendChild(item.row); });
  }

  function filter(table, text, shown) {
    var words = text.toLowerCase().split(/\s+/).filter(Boolean), count = 0;
    Array.prototype.forEach.call(table.tBodies[0].rows, function (row) {
      var content = row.textContent.toLowerCase();
      row.hidden = !words.every(function (word) { return content.indexOf(word) >= 0; });
      count += row.hidden ? 0 : 1;
    });
    shown.textContent = count + " of " + table.tBodies[0].rows.length + " shown";
  }

  document.querySelectorAll("table.sortable").forEach(function (table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (header, column) {
      var button = header.querySelector("button");
      if (button) button.addEventListener("click", function () { sortBy(table, column, header); });
    });
  });
  document.querySelectorAll("input[data-filters]").forEach(function (input) {
    var table = document.getElementById(input.dataset.filters);
    var shown = document.getElementById(input.dataset.filters + "-shown");
    input.addEventListener("input", function () { filter(table, input.value, shown); });
    filter(table, input.value, shown);
  });
  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
