"use strict";
// Figures of research.plots in the colours of the theme that JupyterLab shows. JupyterLab loads this as one of its
// extensions: it has no renderer of its own and dresses Plotly's. In a light theme nothing is changed.
(() => {
  const MIME = "application/vnd.plotly.v1+json";
  // research.plots.style.DARK
  const DARK = {
    "#FBFAF7": "#0E1218", "#FFFFFF": "#161B23", "#1B1F27": "#E8EAEE", "#5A6372": "#9AA4B4",
    "#176BCB": "#3BA7FF", "#B63A06": "#FA9A32", "#8A2470": "#EE62B9", "#7A6400": "#D8C24A",
    "#04775A": "#6EDBA2", "#868C98": "#727882", "#FFE08A": "#5A4406", "#4A3500": "#FFE08A",
    "#A1123F": "#C92A5A", "#FFF": "#FFF", "#D9D7D0": "#2C3440", "#ECEAE4": "#222935",
    "#B5A998": "#5E5346", "#DAD3C9": "#3C3731", "#F6F4F0": "#20262F", "#D9EEE6": "#1B3832",
    "#A6D8C5": "#194D41", "#6DBFA3": "#176350", "#38A082": "#13745A", "#F7E9F3": "#241A2C",
    "#EBC9E0": "#43203F", "#D796C3": "#75296A", "#B95C9F": "#B33A91", "#8A2471": "#EE62BA",
    "#4E0B40": "#FFD9F1"
  };

  const paint = (part) => {
    if (ArrayBuffer.isView(part)) return part;
    if (Array.isArray(part)) return part.map(paint);
    if (part && typeof part === "object") {
      return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, paint(value)]));
    }
    return typeof part === "string" && Object.hasOwn(DARK, part) ? DARK[part] : part;
  };

  // The output as its renderer shall see it. A saved notebook keeps a picture of each figure, which is what an export
  // of it shows: that stays in light colours, whatever the theme was when it was saved.
  const themed = (renderer, output) => {
    const figure = output.data[MIME];
    if (document.body.dataset.jpThemeLight !== "false" || !figure?.layout?.meta?.frame) return output;
    const { "image/png": saved, ...data } = output.data;
    return {
      data: { ...data, [MIME]: paint(figure) },
      metadata: output.metadata,
      trusted: output.trusted,
      setData: async () => {
        const { offsetWidth: width, offsetHeight: height } = renderer.node;
        const address = await renderer.constructor.Plotly.toImage(structuredClone(figure), { format: "png", width, height });
        const picture = address.split(",")[1];
        if (picture !== saved) output.setData({ data: { ...output.data, "image/png": picture } });
      },
    };
  };

  const shown = new Map(); // renderer: its output
  const dress = (renderer) => {
    const render = renderer.renderModel.bind(renderer);
    renderer.renderModel = (output) => {
      shown.set(renderer, output);
      return render(themed(renderer, output));
    };
    renderer.disposed.connect(() => shown.delete(renderer));
    return renderer;
  };
  const redraw = () => shown.forEach((output, renderer) => renderer.createGraph(themed(renderer, output)));

  const get = async () => {
    const plotly = await window._JUPYTERLAB["jupyterlab-plotly"].get("./mimeExtension");
    const { rendererFactory } = plotly().default[0];
    const create = rendererFactory.createRenderer;
    rendererFactory.createRenderer = (options) => dress(create(options));
    new MutationObserver(redraw).observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
    return () => ({ __esModule: true, default: [] });
  };
  (window._JUPYTERLAB ??= {})["aster-figures"] = { init: () => {}, get };
})();
