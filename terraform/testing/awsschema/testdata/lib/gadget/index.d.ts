export interface GadgetConfig extends cdktn.TerraformMetaArguments {
    /**
    * Docs: gadget#secret_wo
    */
    readonly secretWo?: string;
    /**
    * Docs: gadget#rule
    */
    readonly rule?: GadgetRule[];
    /**
    * shell block
    *
    */
    readonly shell?: GadgetShell;
    /**
    * part block
    */
    readonly part: GadgetPart[];
    /**
    * timeouts block
    */
    readonly timeouts?: GadgetTimeouts;
}
export interface GadgetPart {
    readonly name: string;
}
