// What the scripts of the panel use of Jupyter's widgets and kernels, for the type check of tsconfig.json.

/** A model of ipywidgets, which is one of Backbone, in a browser. */
interface WidgetModel {
  readonly model_id: string;
  readonly widget_manager: WidgetManager;
  /** Whether the model is connected to a kernel. */
  readonly comm_live: boolean;
  comm?: WidgetComm;
  /** Each is ready once it is drawn. */
  readonly views?: Record<string, Promise<{ el: HTMLElement }>>;
  /** Kept here by pageState(), on the model of a link only. */
  perfmon?: PageState;
  get(name: string): any;
  send(content: object): void;
  on(event: string, callback: (...values: any[]) => void): void;
  off(event: string, callback: (...values: any[]) => void): void;
  trigger(event: string): void;
}

interface WidgetManager {
  get_model(name: string): Promise<WidgetModel>;
  /** JupyterLab and Notebook have it, other front ends may not. */
  kernel?: Kernel;
}

/** The connection of one model to the kernel. */
interface WidgetComm {
  readonly comm_id: string;
  send: Send;
  /** The function `send` that was replaced by useControlChannel(). */
  perfmonSend?: Send;
}

type Send = (data: object, callbacks?: Callbacks, metadata?: object, buffers?: ArrayBuffer[]) => string;

interface Callbacks {
  iopub?: Record<string, ((message: KernelMessage) => void) | undefined>;
}

interface KernelMessage {
  header: { msg_type: string };
  content: { execution_state?: string };
}

/** A kernel's connection as JupyterLab has it. */
interface Kernel {
  readonly clientId: string;
  readonly username?: string;
  readonly isDisposed: boolean;
  readonly status: string;
  readonly connectionStatus?: string;
  readonly statusChanged?: {
    connect(callback: (kernel: unknown, status: string) => void): void;
    disconnect(callback: (kernel: unknown, status: string) => void): void;
  };
  sendControlMessage(message: object, expectReply: boolean, disposeOnDone: boolean): KernelFuture;
}

/** The answers of a kernel to one message. */
interface KernelFuture {
  onIOPub: (message: KernelMessage) => void;
  onReply: (message: KernelMessage) => void;
  dispose(): void;
}

/** What a page knows about a panel. */
interface PageState {
  /** The module gauge.js, once a gauge has asked for it. */
  gauge?: Promise<any>;
  /** A name of the page that it made up itself. */
  page: string;
  /** How many views it has of any part of the panel. */
  views: number;
  /** Whether it was connected to a kernel at any time since it was loaded. */
  wasLive: boolean;
  /** Whether that kernel has gone. */
  lost: boolean;
  /** How many changes wait for the running cell to end. */
  waiting: number;
  /** Why the readings are out of date; empty if they are not. */
  doubt: string;
  /** How many views say that, in place of the gauges. */
  speakers: number;
}

/** What panel/gauges.py sends with each sample. */
interface Readings {
  state: "live" | "stopped";
  /** Unix seconds; null before the first sample. */
  time: number | null;
  /** Seconds. */
  interval: number;
  gauges?: Record<string, Share & { detail?: string; bar?: Share & { label: string } }>;
}

/** A number against its limit: 0 to 100. */
interface Share {
  value?: number;
  level?: string;
}

/** What the live page is sent; web/view.py makes it. */
interface View extends Readings {
  newest: string | null;
  window: number;
  windows: { seconds: number; words: string }[];
  /** A kernel that has died has no log. */
  log?: LogState;
  /** What a kernel died of. */
  death?: string;
  /** Left out if it is as before. */
  verdict?: Finding | null;
  /** Stands for the figures that this view is about; what follows is left out if there is no new sample. */
  have?: string;
  axis?: Axis;
  behind?: Behind;
  sections?: Section[];
}

/** The time axis of all figures, and where new points lie. All times are in Unix seconds. */
interface Axis {
  start: number;
  end: number;
  ticks: [time: number, label: string][];
  zone: string;
  /** Points from this time on are replaced by those at `times`. */
  from: number;
  times: number[];
  /** The number of the first new column of a map, and how many seconds a column is. */
  column: number;
  seconds: number;
  /** The colours of maps; only with a view that has everything. */
  colors?: string[];
}

/** What lies behind the lines: cells, spans and marks. Heights are shares of that of a figure. */
interface Behind {
  layers: { color: string; edge: number; inside: number; bottom: number; top: number; at: [number, number][] }[];
  names: [time: number, height: number, words: string][];
}

interface LogState {
  enabled: boolean;
  path: string | null;
  rows: number;
  error?: string;
}

interface Finding {
  severity: string;
  what: string;
  evidence: string;
  advice: string;
}

/** A group of columns; what follows the title is there if the section is open. */
interface Section {
  group: string;
  title: string;
  figures?: Figure[];
  table?: Numbers;
  /** With a view that has everything: the rows of the table, and which of them stand in a row of many GPUs. */
  rows?: Row[];
  grid?: { columns?: string[]; places?: { label: string; metrics: number[] }[] };
}

/** What is sent of a figure each time. A figure of lines has values, a map has columns. */
interface Figure extends Partial<Frame> {
  title: string;
  /** The lower and upper end of the axis, in its unit. */
  ends?: [number, number];
  /** What values are divided by to be in the unit of the axis. */
  divisor?: number;
  ticks?: [value: number, words: string][];
  /** For each line its new values, with commas in between. */
  values?: string[];
  /** Each has a letter for each row, from below: the number of its colour, or "-". */
  columns?: string[];
}

/** What is sent of a figure once. */
interface Frame {
  words: string;
  lines?: (LineLook & { joined: boolean })[];
  /** The names of lines, each with the number of a line that looks so. */
  names?: [words: string, line: number][];
  /** Labels of the rows of a map. */
  labels?: [row: number, label: string][];
}

interface LineLook {
  color: string;
  dash?: string;
  faint?: boolean;
}

interface Row {
  name: string;
  label: string;
  about: string;
  color?: string;
  dash?: string;
}

interface Numbers {
  cells: string[][];
  reasons: Record<string, string>;
  /** Left out if it is as before. */
  lags?: Lags | null;
}

/** Which of many GPUs, or the like, lags behind the others: a column of it, and why. */
interface Lags {
  column: string;
  why: string;
}

/** A kernel that has a monitor. */
interface KernelEntry {
  id: string;
  name: string;
  state: string;
}

/** What the charts of a section show, which panel/table.js knows. All times are in Unix seconds. */
interface Shown {
  start: number;
  end: number;
  /** Where the mouse or the keys point; null if they do not. */
  moment: number | null;
  /** How many seconds a pixel is. */
  pixel: number;
}
