export interface ThingConfig {}
