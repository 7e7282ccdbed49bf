/* Draws the widgets of a page from the state that is stored in it, with the scripts of the installed packages beside this file.

   jupyter-widgets.js is made for the classic notebook and asks for a module loader, a notebook and a kernel. A page has
   none of them, so each is stood in for by as little as is asked for. Nothing answers: there is no kernel. */
(() => {
  "use strict";
  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const folder = new URL(".", document.currentScript.src);
  const files = {
    "@jupyter-widgets/base": "jupyter-widgets.js",
    "@jupyter-widgets/controls": "jupyter-widgets.js",
    "@jupyter-widgets/output": "jupyter-widgets.js",
    anywidget: "anywidget.js",
  };

  // The loader: a script calls define(), which is matched with its file when the file has run.
  const loaded = { "base/js/events": { on() {} } };
  let defined;
  window.define = (needs, factory) => { defined = { needs, factory }; };

  function fetchScript(file) {
    return (loaded[file] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(file, folder);
      script.onerror = () => reject(new Error(`${file} was expected beside the page's scripts and is not there`));
      script.onload = () => {
        const { needs, factory } = defined;
        const given = needs.map((name) => (name === "module" ? { uri: script.src } : find(name)));
        Promise.all(given).then((parts) => resolve(factory(...parts)), reject);
      };
      document.head.append(script);
    }));
  }

  function find(name) {
    if (name in files) return fetchScript(files[name]);
    return name in loaded ? loaded[name] : Promise.reject(new Error(`no script of this page holds ${name}`));
  }

  window.requirejs = window.require = (names, done, failed = console.error) => {
    Promise.all(names.map(find)).then((parts) => done(...parts), failed);
  };
  window.requirejs.config = () => {};

  // The notebook: its outputs are the places of this page's widgets.
  const places = [...document.querySelectorAll(`script[type="${VIEW}"]`)];
  const stored = document.querySelector(`script[type="${STATE}"]`);
  const events = loaded["base/js/events"];
  const idle = { actions: { register() {}, get() {} }, register_events() {} };
  let draw; // given to us by register_mime_type

  class OutputArea {
    constructor({ selector }) { this.element = selector; }
    register_mime_type(_, append) { draw = append; }
    clear_output() { this.element.replaceChildren(); }
    fromJSON(outputs) {
      for (const { data = {}, text } of outputs) {
        const node = document.createElement(data["text/html"] || data["image/png"] ? "div" : "pre");
        if (data["text/html"]) node.innerHTML = [data["text/html"]].flat().join("");
        else if (data["image/png"]) node.append(Object.assign(new Image(), { src: `data:image/png;base64,${data["image/png"]}` }));
        else node.textContent = [text ?? data["text/plain"] ?? ""].flat().join("");
        this.element.append(node);
      }
    }
    handle_output() {}
    handle_clear_output() {}
  }
  loaded["notebook/js/outputarea"] = { OutputArea };

  const kernel = { is_connected: () => true, comm_info: (_, answer) => answer({ content: { comms: {} } }) };
  kernel.comm_manager = {
    kernel,
    register_target() {},
    new_comm: (_name, _data, _callbacks, _metadata, _id, _buffers) => Promise.reject(new Error("no kernel")),
  };

  function drawWidget(script) {
    const node = document.createElement("div");
    node.className = "output_subarea jupyter-widgets-view";
    script.after(node); // on the page before it is drawn on, as is demanded
    const area = Object.assign(new OutputArea({ selector: node }), {
      create_output_subarea: () => [node],
      keyboard_manager: idle,
    });
    draw.call(area, JSON.parse(script.textContent), {}, { append() {} });
  }

  window.Jupyter = loaded["base/js/namespace"] = {
    version: "7.0.0",
    notification_area: { widget() {} },
    menubar: idle,
    notebook: {
      kernel,
      events,
      keyboard_manager: idle,
      container: events,
      metadata: { widgets: { [STATE]: JSON.parse(stored.textContent) } },
      get_cells: () => places.map((script) => ({ script, output_area: { outputs: [{ data: { [VIEW]: true } }] } })),
      render_cell_output: ({ script }) => drawWidget(script),
    },
  };
  // A menu is hung up next to the one for help.
  const menu = document.createElement("ul");
  menu.hidden = true;
  menu.innerHTML = '<li><a id="help_menu"></a></li>';
  document.body.append(menu);

  fetchScript(files["@jupyter-widgets/base"]).then((script) => script.load_ipython_extension(), console.error);
})();
